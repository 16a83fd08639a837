/**
 * `node scripts/run_ts.mjs bench/route/opening.ts`: from a request to its first token on SmolLM2, with the base at hand and
 * the expert nowhere cached: computing is measured here, in Node on wasm, and the network is computed from bytes.
 * `--lora <folder>` is the expert's uncompressed adapter, which then runs by `input`; without it only its bytes count. `--svg
 * <file>` draws the chart.
 *
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openFolder } from '../../src/cli/file_source.ts'
import { graphInputs } from '../../src/cli/graph_inputs.ts'
import { NodeSession } from '../../src/cli/node_session.ts'
import { openPreparedModel } from '../../src/cli/prepared_base.ts'
import { compressAdapter } from '../../src/compress/index.ts'
import { ReferenceBase, readExpert } from '../../src/reference/index.ts'
import { readIndex } from '../../src/route/index_file.ts'
import { routeIn } from '../../src/route/route.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { Registry } from '../../src/source/registry.ts'
import { type Bar, openingChart } from './opening_chart.ts'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'public/models/smollm2' },
    registry: { type: 'string', default: 'public/experts/smollm2/experts.json' },
    expert: { type: 'string', default: 'sql' },
    mbits: { type: 'string', default: '10' },
    delay: { type: 'string', default: '100' },
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(Math.min(4, availableParallelism())) },
    lora: { type: 'string' },
    svg: { type: 'string' },
  },
})
const [mbits, delay, length, rounds, threads] = [
  values.mbits,
  values.delay,
  values.tokens,
  values.rounds,
  values.threads,
].map(Number)
/** ms that bytes need, each request behind its delay. */
const network = (requests: number, bytes: number) => requests * delay! + (8 * bytes) / (mbits! * 1000)

const registryBytes = readFileSync(values.registry)
const registry = JSON.parse(registryBytes.toString()) as Registry
const entry = registry.experts.find(({ id }) => id === values.expert)
if (entry?.replaces?.f16Lora === undefined || entry.replaces.f16Delta === undefined || !registry.index)
  throw new Error(`${values.registry} does not say what ${values.expert} replaces`)
const index = new Uint8Array(readFileSync(join(values.registry, '..', registry.index.url)))

const best = async (run: () => unknown): Promise<number> => {
  const times: number[] = []
  for (let round = 0; round < rounds!; round++) {
    const from = performance.now()
    await run()
    times.push(performance.now() - from)
  }
  return Math.min(...times)
}

const text = entry.samples![0]!
const readMs = await best(() => readIndex(index, 'index'))
const { table, experts } = readIndex(index, 'index')
const names = { table, idOf: (owner: number) => experts[owner]!.id, labelOf: () => undefined }
const chosen = routeIn(text, names).chosen?.id
const routeMs = await best(() => routeIn(text, names))

const { weights, graphs, config, manifest } = await openPreparedModel(values.model)
const [{ graph, externalData }] = graphs as [(typeof graphs)[number]]
const { fingerprint, dtype } = manifest
const base = await ReferenceBase.create(weights, [graph], { name: values.model, fingerprint, dtype })
const passes = async (bytes: Uint8Array, own: ReturnType<typeof base.feeds>['feeds']) => {
  const session = await NodeSession.create(bytes, externalData, { threads })
  const feeds = session.weights(own)
  const pass = async (count: number) => {
    const ids = BigInt64Array.from({ length: count }, (_, i) => BigInt(1000 + i))
    const given = new Map([['input_ids', { dims: [1, count], data: ids }]])
    const { values: inputs } = graphInputs(session.inputsBeside(feeds), given, config)
    await session.run({ ...session.inputs(inputs), ...feeds })
  }
  await pass(1)
  return pass
}
const pass = await passes(graph.bytes, base.feeds(graph.file).feeds)
const tokenMs = await best(() => pass(1))
const firstMs = await best(() => pass(length!))
const besideMs = values.lora === undefined ? firstMs : await firstBeside(values.lora)

const lists = registryBytes.length + index.length
const bars: Bar[] = [
  { name: 'base alone', network: 0, computing: firstMs },
  {
    name: `auto, .trit of ${kB(entry.bytes)}`,
    network: network(1, entry.bytes),
    computing: routeMs + firstMs,
  },
  {
    name: 'the same, its list not yet here',
    network: network(3, lists + entry.bytes),
    computing: readMs + routeMs + firstMs,
  },
  {
    name: `f16 adapter of ${kB(entry.replaces.f16Lora)}`,
    network: network(1, entry.replaces.f16Lora),
    computing: besideMs,
  },
  {
    name: `full fine-tuning, ${kB(entry.replaces.f16Delta)}`,
    network: network(1, entry.replaces.f16Delta),
    computing: firstMs,
  },
]
const total = ({ network, computing }: Bar) => network + computing
const [, auto, cold, adapter] = bars as [Bar, Bar, Bar, Bar]

console.log(
  `"${text.split('\n').at(-1)}" is for ${chosen ?? 'none'}; ${mbits} Mbit/s, ${delay} ms; request of ${length} tokens`,
)
for (const bar of bars)
  console.log(
    `${bar.name.padEnd(34)} network ${seconds(bar.network)}, computing ${seconds(bar.computing)}, first token after ${seconds(total(bar))}`,
  )
console.log(
  `f16 adapter / auto: ${(total(adapter) / total(auto)).toFixed(1)}; list not yet here: ${(total(adapter) / total(cold)).toFixed(1)}; without computing: ${(adapter.network / auto.network).toFixed(1)}`,
)
console.log(
  `a route takes ${routeMs.toFixed(2)} ms, a token ${tokenMs.toFixed(0)} ms: 1/${(tokenMs / routeMs).toFixed(0)} of it`,
)
if (values.lora !== undefined)
  console.log(`a pass with the adapter by input takes ${(besideMs / firstMs).toFixed(2)} × the base's`)
console.log(
  `computing: best of ${rounds} rounds, Node on wasm, threads: ${threads}; what is put on and compiled is not in it`,
)
if (values.svg !== undefined)
  writeFileSync(
    values.svg,
    openingChart(`From a request to its first token at ${mbits} Mbit/s and ${delay} ms`, bars),
  )

/** ms of the first pass with an adapter's own tensors beside the weights, its graph being ready. */
async function firstBeside(folder: string): Promise<number> {
  const { file } = await compressAdapter({ adapter: openFolder(folder), options: { dense: ['*'] } })
  const admitted = await base.admit(await readExpert(memorySource(file)), folder)
  const bound = await base.bind([{ ...admitted, weight: 1 }], 'input')
  const { variant, feeds } = base.feeds(graph.file, bound)
  const beside = await passes(variant!, feeds)
  return best(() => beside(length!))
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}

function kB(bytes: number): string {
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${Number((bytes / 1e6).toPrecision(3))} MB`
}
