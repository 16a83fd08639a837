/**
 * The browser of the tests: which Chromium, and with which flags.
 *
 * @module
 */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
const PLACES = ['/Applications/Google Chrome.app/Contents/MacOS/Google Chrome']

/** An installed Chromium or Chrome: CHROME_PATH, else the first on PATH. @returns {string | undefined} */
export function findChromium() {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  const candidates = [
    ...(process.env.CHROME_PATH ? [process.env.CHROME_PATH] : []),
    ...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))),
    ...PLACES,
  ]
  return candidates.find(isExecutable)
}

/** V8 compiles onnxruntime's wasm once, not a second time with optimizations that a short test does not earn back. */
export const COMPILED_ONCE = '--js-flags=--liftoff-only'

/**
 * Without the zeros that WebGPU puts into workgroup memory, SwiftShader compiles and runs onnxruntime's kernels for
 * float weights in half the time. MatMulNBits relies on those zeros; SmolLM2's answers are wrong without them, too.
 */
export const WITHOUT_ZEROS = '--enable-dawn-features=disable_workgroup_init'

/**
 * Launch options for Playwright: headless Chromium with WebGPU on SwiftShader, which needs no GPU.
 *
 * @param {readonly string[]} [flags] - more of them
 */
export function chromiumLaunchOptions(flags = []) {
  const executablePath = findChromium()
  return {
    // Playwright's own headless shell has no WebGPU; its 'chromium' channel is the whole browser.
    ...(executablePath ? { executablePath } : { channel: 'chromium' }),
    args: [
      '--no-sandbox',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--enable-unsafe-webgpu',
      '--use-webgpu-adapter=swiftshader',
      ...flags,
    ],
  }
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
