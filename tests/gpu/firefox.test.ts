/** The kernels in a second engine. */
import { resolve } from 'node:path'
import { json } from 'node:stream/consumers'
import { createServer, type ViteDevServer } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { missingForFirefox, openFirefox } from '../../scripts/firefox.mjs'
import type { PageReport } from './firefox_page.ts'

const missing = missingForFirefox()
if (missing !== undefined) console.warn(`Kernels are not tested in a second engine: ${missing}`)

let server: ViteDevServer
let firefox: ReturnType<typeof openFirefox> | undefined
let report: Promise<PageReport>

beforeAll(async () => {
  if (missing !== undefined) return
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
  firefox = openFirefox(`${server.resolvedUrls?.local[0]}tests/gpu/firefox.html?cases=200&seed=2`)
}, 120_000)

afterAll(async () => {
  await firefox?.close()
  await server?.close()
})

test.skipIf(missing !== undefined)(
  'every kernel does in Firefox what its twin does',
  async () => {
    const ended = firefox!.ended.then((code): PageReport => ({ error: `Firefox ended with ${code}` }))
    const found = await Promise.race([report, ended])
    if ('error' in found) throw new Error(found.error)
    console.log(`${found.comparisons} comparisons on ${found.adapter}`)
    expect(found.failures).toEqual([])
    expect(found.comparisons).toBeGreaterThan(200 * 15)
  },
  600_000,
)
