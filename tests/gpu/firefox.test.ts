/** The kernels in a second engine. */
import { resolve } from 'node:path'
import { json } from 'node:stream/consumers'
import { createServer, type ViteDevServer } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { missingForFirefox, openFirefox } from '../../scripts/firefox.mjs'
import { LONG } from '../tier.ts'
import { KERNELS } from './conformance/kernels.ts'
import { conformance } from './conformance/run.ts'
import type { PageReport } from './firefox_page.ts'
import { CLASSES } from './fixtures.ts'

const SWITCHES = LONG > 0 ? 200 : 0

const missing = missingForFirefox()
if (missing !== undefined) console.warn(`Kernels are not tested in a second engine: ${missing}`)

let server: ViteDevServer
let firefox: ReturnType<typeof openFirefox> | undefined
let failures: Record<string, string[]>
let switches: Record<string, string[]>

beforeAll(
  async () => {
    if (missing !== undefined) return
    let receive: (report: PageReport) => void
    const report = new Promise<PageReport>((resolve) => {
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
    // A second compiler is to be tested, and compiles a kernel for the first case.
    const { cases, seed } = { ...conformance(process.env), ...(!LONG && { cases: 16 }) }
    const page = `${server.resolvedUrls?.local[0]}tests/gpu/firefox.html?cases=${cases}&seed=${seed}&switches=${SWITCHES}`
    firefox = openFirefox(page)
    const ended = firefox.ended.then((code): PageReport => ({ error: `Firefox ended with ${code}` }))
    const found = await Promise.race([report, ended])
    if ('error' in found) throw new Error(found.error)
    console.log(`${cases} cases a kernel on ${found.adapter}`)
    failures = found.failures
    switches = found.switches
  },
  LONG > 0 ? 3_600_000 : 600_000,
)

afterAll(async () => {
  await firefox?.close()
  await server?.close()
})

test.skipIf(missing !== undefined).each(Object.keys(KERNELS))(
  '%s does in Firefox what its twin does',
  (name) => {
    expect(failures[name]).toEqual([])
  },
)

test.runIf(SWITCHES > 0 && missing === undefined).each(Object.keys(CLASSES))(
  `${SWITCHES} random switches leave the same weights for a set, as on %s`,
  (name) => {
    expect(switches[name]).toEqual([])
  },
)
