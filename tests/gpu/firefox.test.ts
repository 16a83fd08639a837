/**
 * The kernels in a second engine: Debian's Firefox (wgpu and naga) on llvmpipe. Playwright cannot drive a stock Firefox,
 * hence puppeteer over WebDriver BiDi.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import puppeteer, { type Browser } from 'puppeteer-core'
import { createServer, type ViteDevServer } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'

const executablePath = [process.env.FIREFOX_PATH, '/usr/bin/firefox-esr', '/usr/bin/firefox'].find(
  (path) => path !== undefined && existsSync(path),
)
const llvmpipe =
  existsSync('/usr/share/vulkan/icd.d/lvp_icd.x86_64.json') ||
  existsSync('/usr/share/vulkan/icd.d/lvp_icd.json')
const missing =
  executablePath === undefined
    ? 'there is no Firefox'
    : llvmpipe
      ? undefined
      : 'mesa-vulkan-drivers is not installed'
if (missing !== undefined) console.warn(`Kernels are not tested in a second engine: ${missing}`)

let server: ViteDevServer
let browser: Browser

beforeAll(async () => {
  if (missing !== undefined) return
  server = await createServer({
    configFile: false,
    root: resolve(import.meta.dirname, '../..'),
    cacheDir: 'node_modules/.vite-firefox',
    logLevel: 'error',
    optimizeDeps: { include: ['webgpu-utils', 'fflate'] },
    server: { port: 0, ws: false, watch: null },
  })
  await server.listen()
  browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath,
    headless: true,
    extraPrefsFirefox: {
      'dom.webgpu.enabled': true,
      'gfx.webgpu.force-enabled': true,
      'gfx.webgpu.ignore-blocklist': true,
      'dom.webgpu.workers.enabled': true,
    },
    protocolTimeout: 600_000,
  })
}, 120_000)

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

test.skipIf(missing !== undefined)(
  'every kernel does in Firefox what its twin does',
  async () => {
    const page = await browser.newPage()
    await page.goto(`${server.resolvedUrls?.local[0]}tests/gpu/firefox.html`)
    await page.waitForFunction(() => 'conformance' in globalThis)
    const { failures, comparisons, adapter } = await page.evaluate(() =>
      globalThis.conformance(Number(200), 2),
    )
    console.log(`${comparisons} comparisons on ${adapter}`)
    expect(failures).toEqual([])
    expect(comparisons).toBeGreaterThan(200 * 15)
  },
  600_000,
)
