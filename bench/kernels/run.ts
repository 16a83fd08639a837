/**
 * `npm run bench:kernels -- [--json out.json] [--weights 16777216] [--density 0.05,0.2] [--dtype float32,float16]
 * [--layout rows,transposed] [--rounds 7] [--gpu]`: kernel times in Chromium, on SwiftShader unless `--gpu` is given.
 */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright'
import { createServer } from 'vite'
import { chromiumLaunchOptions } from '../../scripts/chromium.mjs'
import type { BenchCase } from './cases.ts'
import { OPTIONS, optionsFrom, report } from './options.ts'

const { values } = parseArgs({ options: { ...OPTIONS, gpu: { type: 'boolean', default: false } } })
const options = optionsFrom(values)
const server = await createServer({
  configFile: false,
  root: fileURLToPath(new URL('../..', import.meta.url)),
  logLevel: 'error',
  server: { port: 0 },
})
await server.listen()
const launch = chromiumLaunchOptions()
const args = values.gpu ? launch.args.filter((arg) => !arg.includes('swiftshader')) : launch.args
const browser = await chromium.launch({ ...launch, args })
try {
  const page = await browser.newPage()
  page.on('pageerror', (error) => console.error(error))
  await page.exposeFunction('onCase', (done: BenchCase) => console.log(report(done)))
  await page.goto(`${server.resolvedUrls?.local[0]}bench/kernels/index.html`)
  await page.waitForFunction(() => 'bench' in globalThis)
  const result = await page.evaluate((options) => globalThis.bench(options), options)
  const { description, vendor, software } = result.adapter
  console.log(
    `\non ${vendor} ${description}${software ? ' (software: ratios only mean something among themselves)' : ''}`,
  )
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`)
} finally {
  await browser.close()
  await server.close()
}
