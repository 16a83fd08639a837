/**
 * One run of the benchmark: builds the page, serves it and the files, drives a Chromium through the groups of cases,
 * and puts the figures together.
 *
 * @module
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { arch, cpus, loadavg, platform, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { type Browser, chromium } from 'playwright'
import { build, type PreviewServer, preview } from 'vite'
import { chromiumLaunchOptions } from '../../scripts/chromium.mjs'
import { type FaultServer, startFaultServer } from '../servers/fault_server.ts'
import { type PreparedFiles, prepareFiles } from './files.ts'
import { type BenchOptions, chosen } from './options.ts'
import type {} from './page/page.ts'
import type { GroupResult, PageConfig, Progress } from './protocol.ts'
import { type Adapter, type BenchReport, type Environment, makeReport } from './results.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const require = createRequire(import.meta.url)
const LINE = { lineBitsPerSecond: 1e7, latencyMs: 60 }
/** As the paper's opening problem has it. */
const SLOW = { ...LINE, latencyMs: 100 }

/** A page that says nothing for so long has hung: a lost device, a deadlock. */
const SILENCE_MS = 180_000

export interface RunHooks {
  onProgress?: (progress: Progress) => void
  /** Called after each group with all that is known so far. */
  onReport?: (report: BenchReport) => void
}

/** Sizes that a run may leave out or shrink. */
export interface RunScale {
  sizes?: readonly number[]
  densities?: readonly number[]
  densityWeights?: number
  residents?: readonly number[]
}

export async function runBench(
  options: BenchOptions,
  hooks: RunHooks = {},
  scale: RunScale = {},
): Promise<BenchReport> {
  const { onProgress = () => {}, onReport = () => {} } = hooks
  const residents = scale.residents ?? [1, 4, 16, 64]
  const [load] = loadavg()
  onProgress({ group: 'setup', stage: 'files' })
  // Two cold loads a run and three for the warm one, those beside a generation, and a pile of residents.
  const prepared = await prepareFiles(options, Math.max(5 * (options.runs + 2), Math.max(...residents)) + 8)
  onProgress({ group: 'setup', stage: 'page' })
  const opened: { close: () => Promise<unknown> }[] = []
  try {
    const site = await openSite()
    opened.push(site)
    const fast = await serve(prepared, {})
    opened.push(fast)
    const line = await serve(prepared, LINE)
    opened.push(line)
    const slow = await serve(prepared, SLOW)
    opened.push(slow)
    const { browser, adapter } = await openBrowser(options, siteUrl(site))
    opened.push(browser)
    const largest = options.maxWeights ?? (adapter.software ? 2 ** 26 : 2 ** 28)
    const config: PageConfig = {
      model: `${fast.url}/model/`,
      dtype: prepared.dtype,
      ort: `${siteUrl(site)}ort/`,
      fast: fast.url,
      line: line.url,
      slow: slow.url,
      prompt: prepared.prompt,
      experts: prepared.experts,
      copies: prepared.copies,
      peers: { ...prepared.peers, root: `${fast.url}${prepared.peers.root}` },
      opening: prepared.opening,
      sizes: scale.sizes ?? powersOfTwo(2 ** 22, largest),
      densities: scale.densities ?? [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5],
      densityWeights: scale.densityWeights ?? Math.min(largest, 2 ** 24),
      residents,
      newTokens: options.newTokens,
    }
    const environment = environmentOf(browser, load)
    const reportOf = (groups: ReadonlyMap<string, GroupResult>) =>
      makeReport({ environment, adapter, options, prepared, config, groups, line: LINE, slow: SLOW, largest })
    const groups = await runGroups(browser, siteUrl(site), config, options, onProgress, (some) =>
      onReport(reportOf(some)),
    )
    return reportOf(groups)
  } finally {
    for (const part of opened.reverse()) await part.close()
  }
}

function powersOfTwo(from: number, to: number): number[] {
  const sizes = []
  for (let size = from; size <= to; size *= 2) sizes.push(size)
  return sizes
}

/** The page, built for production and served as plain files. */
async function openSite(): Promise<PreviewServer> {
  const configFile = join(ROOT, 'e2e/bench/vite.config.ts')
  await build({ configFile, logLevel: 'error' })
  return preview({ configFile, logLevel: 'error', preview: { port: 0, host: 'localhost' } })
}

function siteUrl(site: PreviewServer): string {
  const [url] = site.resolvedUrls?.local ?? []
  if (url === undefined) throw new Error('the page is served nowhere')
  return url
}

async function serve({ files }: PreparedFiles, limits: object): Promise<FaultServer> {
  const server = await startFaultServer(limits)
  for (const [path, bytes] of files) server.files.set(path, { bytes })
  return server
}

/** Chromium on a GPU if the machine has one and the options let it, else on SwiftShader. */
async function openBrowser(
  { adapter: wanted }: BenchOptions,
  url: string,
): Promise<{ browser: Browser; adapter: Adapter }> {
  const software = chromiumLaunchOptions()
  const gpu = {
    ...software,
    args: [
      ...software.args.filter((arg) => !arg.includes('swiftshader')),
      '--ignore-gpu-blocklist',
      ...(platform() === 'linux' ? ['--enable-features=Vulkan'] : []),
    ],
  }
  let failure: unknown
  for (const launch of wanted === 'auto' ? [gpu, software] : [software]) {
    const browser = await chromium.launch({ headless: true, ...launch })
    try {
      const page = await browser.newPage()
      await page.goto(`${url}e2e/bench/page/`)
      await page.waitForFunction(() => 'benchmark' in window)
      const adapter = await page.evaluate(() => window.benchmark.adapter())
      await page.close()
      // Chromium falls back to SwiftShader by itself, but is unstable there with the flags for real GPUs.
      if (launch === gpu && adapter.software) {
        await browser.close()
        continue
      }
      return { browser, adapter }
    } catch (error) {
      failure = error
      await browser.close()
    }
  }
  throw failure
}

async function runGroups(
  browser: Browser,
  url: string,
  config: PageConfig,
  { only, runs }: BenchOptions,
  onProgress: (progress: Progress) => void,
  onGroup: (results: ReadonlyMap<string, GroupResult>) => void,
): Promise<Map<string, GroupResult>> {
  const results = new Map<string, GroupResult>()
  const names = await inPage(browser, url, (page) =>
    page.evaluate((config) => window.benchmark.names(config), config),
  )
  for (const [group, all] of Object.entries(names)) {
    const wanted = all.filter((name) => chosen(only, group, name))
    if (wanted.length === 0) continue
    // A page of its own for each group, so that groups do not disturb each other.
    const result = await inPage(browser, url, async (page) => {
      let doing = 'its setup'
      const silence = watchdog(
        SILENCE_MS,
        () => new Error(`nothing came of ${doing} for ${SILENCE_MS / 1000} s`),
      )
      await page.exposeFunction('onBenchProgress', (stage: string, bench: string) => {
        doing = `${bench} (${stage})`
        silence.reset()
        onProgress({ group, stage, bench })
      })
      const finished = page.evaluate(
        ([group, config, runs, wanted]) => window.benchmark.run(group, config, runs, wanted),
        [group, config, runs, wanted] as const,
      )
      finished.catch(() => {})
      try {
        return await Promise.race([finished, silence.bites])
      } finally {
        silence.stop()
      }
    }).catch(
      (error: Error): GroupResult => ({
        cases: [],
        notes: {},
        skipped: wanted.map((name) => ({ name, reason: error.message.split('\n')[0] })),
      }),
    )
    results.set(group, result)
    onGroup(results)
  }
  return results
}

/** Rejects unless it is reset in time. */
function watchdog(ms: number, error: () => Error) {
  let bite: (error: Error) => void = () => {}
  const bites = new Promise<never>((_, reject) => {
    bite = reject
  })
  bites.catch(() => {})
  let timer: ReturnType<typeof setTimeout>
  const reset = () => {
    clearTimeout(timer)
    timer = setTimeout(() => bite(error()), ms)
  }
  reset()
  return { bites, reset, stop: () => clearTimeout(timer) }
}

async function inPage<R>(
  browser: Browser,
  url: string,
  use: (page: Awaited<ReturnType<Browser['newPage']>>) => Promise<R>,
): Promise<R> {
  const context = await browser.newContext()
  const page = await context.newPage()
  page.on('pageerror', (error) => console.error(error))
  page.setDefaultTimeout(0)
  try {
    await page.goto(`${url}e2e/bench/page/`)
    await page.waitForFunction(() => 'benchmark' in window)
    return await use(page)
  } finally {
    await context.close()
  }
}

function environmentOf(browser: Browser, load: number): Environment {
  const version = (path: string) =>
    (JSON.parse(readFileSync(require.resolve(path), 'utf8')) as { version: string }).version
  const packageOf = (name: string) => version(join(ROOT, 'node_modules', name, 'package.json'))
  const [cpu] = cpus()
  return {
    date: new Date().toISOString(),
    versions: {
      tritswap: version(join(ROOT, 'package.json')),
      commit: commitOf(),
      'transformers.js': packageOf('@xenova/transformers'),
      'onnxruntime-web': packageOf('onnxruntime-web'),
      chromium: browser.version(),
      node: process.versions.node,
    },
    machine: {
      system: `${platform()} ${release()} ${arch()}`,
      cpu: cpu?.model ?? 'unknown',
      cores: cpus().length,
      memoryBytes: totalmem(),
      load,
    },
  }
}

/** With `-dirty` where the files are not those of the commit. */
function commitOf(): string {
  try {
    const args = ['-C', ROOT, 'describe', '--always', '--dirty', '--exclude=*']
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return 'unknown'
  }
}
