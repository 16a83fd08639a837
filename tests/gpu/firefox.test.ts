/**
 * The kernels in a second engine: Debian's Firefox (wgpu and naga) on llvmpipe. Playwright cannot drive a stock Firefox;
 * none of its drivers is needed, for the page starts by itself and sends what it found to the server that it came from.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { json } from 'node:stream/consumers'
import { createServer, type ViteDevServer } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { PageReport } from './firefox_page.ts'

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

const PREFERENCES = {
  'dom.webgpu.enabled': true,
  'gfx.webgpu.force-enabled': true,
  'gfx.webgpu.ignore-blocklist': true,
  'dom.webgpu.workers.enabled': true,
  // The page computes what the kernels must give: that is one long script.
  'dom.max_script_run_time': 0,
  'browser.aboutwelcome.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.startup.max_resumed_crashes': -1,
}

let server: ViteDevServer
let profile: string
let firefox: ChildProcess | undefined
let report: Promise<PageReport>

beforeAll(async () => {
  if (executablePath === undefined || missing !== undefined) return
  let receive: (report: PageReport) => void
  report = new Promise((resolve) => {
    receive = resolve
  })
  server = await createServer({
    configFile: false,
    root: resolve(import.meta.dirname, '../..'),
    cacheDir: 'node_modules/.vite-firefox',
    logLevel: 'error',
    optimizeDeps: { include: ['webgpu-utils', 'fflate'] },
    server: { port: 0, ws: false, watch: null },
    plugins: [
      {
        name: 'report',
        configureServer({ middlewares }) {
          middlewares.use('/report', async (request, response) => {
            receive((await json(request)) as PageReport)
            response.end()
          })
        },
      },
    ],
  })
  await server.listen()
  profile = mkdtempSync(join(tmpdir(), 'tritswap-firefox-'))
  const preferences = Object.entries(PREFERENCES).map(
    ([name, value]) => `user_pref(${JSON.stringify(name)}, ${value});\n`,
  )
  writeFileSync(join(profile, 'user.js'), preferences.join(''))
  const page = `${server.resolvedUrls?.local[0]}tests/gpu/firefox.html?cases=200&seed=2`
  firefox = spawn(executablePath, ['--headless', '--no-remote', '--profile', profile, page], {
    stdio: 'ignore',
  })
}, 120_000)

afterAll(async () => {
  if (firefox?.exitCode === null) {
    firefox.kill()
    await once(firefox, 'exit')
  }
  await server?.close()
  if (profile !== undefined) rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
})

test.skipIf(missing !== undefined)(
  'every kernel does in Firefox what its twin does',
  async () => {
    const ended = once(firefox!, 'exit').then(
      ([code]): PageReport => ({ error: `Firefox ended with ${code}` }),
    )
    const found = await Promise.race([report, ended])
    if ('error' in found) throw new Error(found.error)
    console.log(`${found.comparisons} comparisons on ${found.adapter}`)
    expect(found.failures).toEqual([])
    expect(found.comparisons).toBeGreaterThan(200 * 15)
  },
  600_000,
)
