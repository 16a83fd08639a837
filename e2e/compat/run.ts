/**
 * The whole compatibility run: what the command line makes of a zoo, and what a browser makes of that.
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createServer, type ViteDevServer } from 'vite'
import type { TritTable, TritTensor } from '../../src/format/index.ts'
import { type BrowserName, type CompatBrowser, openBrowser } from './browsers.ts'
import type { Job, JobResult, Outcome } from './protocol.ts'
import { integerModules, limitsOf, readTable } from './quantized.ts'
import { readZoo, type ZooExpert, type ZooGraph, type ZooModel } from './zoo.ts'

export type Verdict = 'ok' | 'refused' | 'skipped' | 'wrong'

export interface Row {
  model: string
  /** Folder of the graphs. */
  graph: string
  dtype: string
  browser: string
  /** `base` for the model without any. */
  adapter: string
  binding: string
  verdict: Verdict
  /** Largest difference, relative to the range of the outputs. */
  maxDiff?: number
  message?: string
}

export interface CompatOptions {
  zoo: string
  /** More adapters for its models: see {@link readZoo}. */
  kinds?: string
  /** Each graph is tried in the first that can run it. */
  browsers?: readonly BrowserName[]
  /** More flags of Chromium. */
  flags?: readonly string[]
  /** Whether to try something; paths are `model/graph/dtype/adapter`. */
  wanted?: (path: string) => boolean
  /** A server that has the page, if one runs; it stays open. */
  server?: ViteDevServer
  onRow?: (row: Row) => void
}

const ROOT = new URL('../..', import.meta.url).pathname
const CLI = join(ROOT, 'dist/cli.js')
const COMPRESSED = ['--rule', 'published', '--threshold', 'tensor', '--density', '0.2', '--alpha', '2']
const UNCOMPRESSED = ['--dense', '*', '--dense-dtype', 'f32']
/** Of a row that does not say: experts beside the weights have rows of their own. */
const BINDING = 'merge'

/** The zoo was made when these were refused, and has no outputs of torch with them; the other folder of adapters has. */
const TAKEN_SINCE = new Set(['refuse_adalora', 'refuse_dora', 'refuse_loha', 'refuse_prompt'])

const isF16 = ({ dtype }: ZooGraph) => /fp?16/.test(dtype)

const exec = promisify(execFile)

/** `tritswap …`, built before. @throws {Error} whose `stderr` says why */
async function tritswap(...args: string[]): Promise<void> {
  // What an earlier run left is made again.
  const env = { ...process.env, TRITSWAP_FORCE: '1' }
  await exec(process.execPath, [CLI, ...args], { maxBuffer: 1 << 26, env })
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string }
  return stderr?.trim() || message
}

interface MadeExpert {
  name: string
  refuse?: string
  replaces: readonly string[]
  /** The error of the command line, if it refused the adapter. */
  refusal?: string
  dense: string
  compressed: string
}

export async function runCompat({
  zoo,
  kinds,
  browsers: names = ['chromium'],
  flags = [],
  wanted = () => true,
  server: given,
  onRow = () => {},
}: CompatOptions): Promise<Row[]> {
  const rows: Row[] = []
  const add = (row: Row) => {
    rows.push(row)
    onRow(row)
  }
  const out = mkdtempSync(join(tmpdir(), 'tritswap-compat-'))
  const server = given ?? (await serve())
  const browsers: { name: BrowserName; browser: CompatBrowser; hasF16: boolean }[] = []
  try {
    const pathOf = (model: ZooModel, { folder, dtype }: ZooGraph, adapter: string) =>
      [model.name, folder, dtype, adapter].join('/')
    const models = readZoo(zoo, kinds).map((model) => {
      const names = [...model.experts.map(({ name }) => name), 'base']
      const graphs = model.graphs.filter((graph) => names.some((name) => wanted(pathOf(model, graph, name))))
      return { model, graphs }
    })
    const asksF16 = models.some(({ graphs }) => graphs.some(isF16))
    for (const name of names) {
      const browser = await openBrowser(name, server, flags)
      browsers.push({ name, browser, hasF16: asksF16 && (await browser.hasF16()) })
    }
    for (const { model, graphs } of models) {
      if (graphs.length === 0) continue
      const experts: MadeExpert[] = []
      for (const expert of model.experts) {
        if (graphs.some((graph) => wanted(pathOf(model, graph, expert.name))))
          experts.push(await makeExpert(model, expert, join(out, model.name)))
      }
      for (const graph of graphs) {
        const chosen = experts.filter(({ name }) => wanted(pathOf(model, graph, name)))
        const able = browsers.find(({ hasF16 }) => hasF16 || !isF16(graph))
        const { name: browser } = able ?? browsers[0]
        const common = { model: model.name, graph: graph.folder, dtype: graph.dtype, browser }
        const result = await runGraph(able?.browser, model, graph, chosen, join(out, model.name))
        const isTried = rows.some((row) =>
          Object.entries(common).every(([key, value]) => row[key as keyof Row] === value),
        )
        if (!isTried || result.base.error !== undefined)
          add({ ...common, adapter: 'base', binding: BINDING, ...verdictOf(result.base) })
        for (const { name, refuse, refusal } of chosen) {
          if (TAKEN_SINCE.has(name)) continue
          const verdict =
            refuse !== undefined || refusal !== undefined
              ? refusalVerdict(refuse, refusal)
              : verdictOf(result.base.error ? result.base : result.experts[name])
          add({ ...common, adapter: name, binding: BINDING, ...verdict })
          const binding = result.bindings?.[name]
          if (binding !== undefined && !result.base.error)
            add({ ...common, adapter: name, binding, ...verdictOf(result.beside[name]) })
        }
      }
    }
    return rows
  } finally {
    for (const { browser } of browsers) await browser.close()
    if (given === undefined) await server.close()
    rmSync(out, { recursive: true, force: true })
  }
}

async function serve(): Promise<ViteDevServer> {
  const server = await createServer({
    configFile: join(ROOT, 'e2e/compat/vite.config.ts'),
    server: { port: Number(process.env.COMPAT_PORT ?? 4391), strictPort: false },
  })
  return server.listen()
}

/** Makes both experts of an adapter or a fine-tuned checkpoint. */
async function makeExpert(model: ZooModel, { name, path, kind, refuse, replaces }: ZooExpert, out: string) {
  mkdirSync(out, { recursive: true })
  const made: MadeExpert = {
    name,
    refuse,
    replaces,
    dense: join(out, `${name}.dense.trit`),
    compressed: join(out, `${name}.trit`),
  }
  const from = [
    '--base',
    model.path,
    kind === 'adapter' ? '--adapter' : '--finetuned',
    path,
    '--threads',
    '1',
  ]
  try {
    await tritswap('compress', ...from, ...UNCOMPRESSED, '--out', made.dense)
    await tritswap('compress', ...from, ...COMPRESSED, '--out', made.compressed)
  } catch (error) {
    made.refusal = reasonOf(error)
  }
  return made
}

function refusalVerdict(
  refuse: string | undefined,
  refusal: string | undefined,
): Partial<Row> & { verdict: Verdict } {
  if (refuse === undefined) return { verdict: 'wrong', message: refusal }
  if (refusal === undefined) return { verdict: 'wrong', message: `${refuse} is not refused` }
  const named = refusal.toLowerCase().includes(refuse.toLowerCase())
  return {
    verdict: named ? 'refused' : 'wrong',
    message: named ? refusal : `the refusal does not name ${refuse}: ${refusal}`,
  }
}

async function runGraph(
  browser: CompatBrowser | undefined,
  model: ZooModel,
  { folder, dtype, externalData }: ZooGraph,
  experts: readonly MadeExpert[],
  out: string,
): Promise<JobResult & { bindings?: Record<string, 'side' | 'input'> }> {
  if (browser === undefined) return skipped('this browser’s WebGPU lacks shader-f16', experts)
  const prepared = join(out, folder, dtype)
  try {
    await tritswap('prepare', model.path, '--out', prepared, '--dtype', dtype, '--subfolder', folder)
    const integers = integerModules(join(model.path, folder), dtype)
    const base = await readTable(join(prepared, 'weights.trit'))
    const usable = experts.filter(({ refuse, refusal }) => refuse === undefined && refusal === undefined)
    const tables = new Map<string, TritTable>()
    for (const { name, dense } of usable) tables.set(name, await readTable(dense))
    const bindings = Object.fromEntries(
      Array.from(tables, ([name, table]) => [name, bindingOf(table, dtype)]).filter(([, binding]) => binding),
    ) as Record<string, 'side' | 'input'>
    const job: Job = {
      folder: `/@fs${model.path}`,
      expected: `/@fs${model.expected}`,
      graph: folder,
      dtype,
      architecture: model.architecture,
      externalData,
      prepared: `/@fs${prepared}`,
      outputs: ['base', ...model.experts.map(({ name }) => name)],
      experts: usable.map(({ name, replaces, dense, compressed }) => ({
        name,
        ...limitsOf(tables.get(name)!, replaces, base, integers),
        beside: bindings[name],
        files: [
          { url: `/@fs${dense}`, expected: name },
          { url: `/@fs${compressed}`, expected: `${name}.compeft` },
        ],
      })),
    }
    const result = await browser.run(job)
    return { ...result, bindings }
  } catch (error) {
    const base: Outcome = { error: reasonOf(error) }
    return { base, experts: {}, beside: {} }
  } finally {
    rmSync(prepared, { recursive: true, force: true })
  }
}

/** How an expert meets the weights of a graph where it is not merged; undefined for one that changes norms alone. */
function bindingOf({ method, tensors }: TritTable, dtype: string): 'side' | 'input' | undefined {
  if (!/^(fp32|q4|q4f16|q8)$/.test(dtype)) return undefined
  const isNorm = ({ role, shape, target }: TritTensor) =>
    role === 'delta' && shape.length === 1 && target.endsWith('.weight')
  if (tensors.every(isNorm)) return undefined
  const isLinear = ({ shape, target }: TritTensor) => shape.length === 2 && !/embed|wte|wpe/.test(target)
  return method === 'full' && tensors.some(isLinear) ? 'side' : 'input'
}

function skipped(reason: string, experts: readonly MadeExpert[]): JobResult {
  const outcome: Outcome = { skipped: reason }
  return {
    base: outcome,
    experts: Object.fromEntries(experts.map(({ name }) => [name, outcome])),
    beside: {},
  }
}

function verdictOf(outcome: Outcome | undefined): Partial<Row> & { verdict: Verdict } {
  const { maxDiff, skipped: reason, error, note } = outcome ?? ({ error: 'it was not tried' } as Outcome)
  if (reason !== undefined) return { verdict: 'skipped', maxDiff, message: reason }
  return error === undefined
    ? { verdict: 'ok', maxDiff, message: note }
    : { verdict: 'wrong', maxDiff, message: error }
}
