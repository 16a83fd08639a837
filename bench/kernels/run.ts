/** `npm run bench:kernels`: kernel times in Chromium; `--help` has the options. */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright'
import { createServer } from 'vite'
import { chromiumLaunchOptions } from '../../scripts/chromium.mjs'
import type { BenchCase } from './cases.ts'
import { optionsOrHelp, report } from './options.ts'

const { bench, json, gpu } = optionsOrHelp('npm run bench:kernels --', true)
const server = await createServer({
  configFile: false,
  root: fileURLToPath(new URL('../..', import.meta.url)),
  logLevel: 'error',
  server: { port: 0 },
})
await server.listen()
const launch = chromiumLaunchOptions()
const args = gpu ? launch.args.filter((arg) => !arg.includes('swiftshader')) : launch.args
const browser = await chromium.launch({ ...launch, args })
try {
  const page = await browser.newPage()
  page.on('pageerror', (error) => console.error(error))
  await page.exposeFunction('onCase', (done: BenchCase) => console.log(report(done)))
  await page.goto(`${server.resolvedUrls?.local[0]}bench/kernels/index.html`)
  await page.waitForFunction(() => 'bench' in globalThis)
  const result = await page.evaluate((options) => globalThis.bench(options), bench)
  const { description, vendor, software } = result.adapter
  console.log(
    `\non ${vendor} ${description}${software ? ' (software: ratios only mean something among themselves)' : ''}`,
  )
  if (json !== undefined) await writeFile(json, `${JSON.stringify(result, null, 2)}\n`)
} finally {
  await browser.close()
  await server.close()
}
