/**
 * `node scripts/run_ts.mjs bench/route/likelihood.ts <skills/data>`: how often `route({ by: 'likelihood' })` chooses the right
 * one of the bundled skills, on SmolLM2 in Node on wasm, and how often none where none is right; and the n-grams on the same
 * requests. `--requests <n>` of each skill and of foreign requests, spread over `test`; `--set valid` to choose on.
 *
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Evaluation } from '../../src/cli/evaluation.ts'
import { expertVariant, type Variant } from '../../src/cli/variants.ts'
import type { TextScore } from '../../src/engine/protocol.ts'
import type { Expert } from '../../src/loader/expert_library.ts'
import { routeByLikelihood } from '../../src/loader/likelihood.ts'
import { readIndex } from '../../src/route/index_file.ts'
import { routeIn } from '../../src/route/route.ts'
import type { Registry } from '../../src/source/registry.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'public/models/smollm2' },
    registry: { type: 'string', default: 'public/experts/smollm2/experts.json' },
    requests: { type: 'string', default: '25' },
    set: { type: 'string', default: 'test' },
  },
})
const [data] = positionals
if (data === undefined) throw new Error('expected <skills/data>')

const folder = join(values.registry, '..')
const registry = JSON.parse(readFileSync(values.registry, 'utf8')) as Registry
const entries = registry.experts.filter(({ id }) => existsSync(join(data, id)))
const requests = [
  ...entries.map(({ id }) => ({ id, texts: some(read(join(data, id, `${values.set}.jsonl`))) })),
  ...['foreign', 'near'].map((kind) => ({
    id: undefined,
    texts: some(read(`authoring/route/${kind}.${values.set}.jsonl`)),
  })),
]
const texts = requests.flatMap((each) => each.texts)

const evaluation = await Evaluation.open(values.model)
const tokens = texts.map((text) => evaluation.tokenizer.encode(text))
/** By expert, the base being undefined, and then by text. */
const scores = new Map<string | undefined, Pick<TextScore, 'bits' | 'tokens'>[]>()
const scoreAll = async (id: string | undefined, variant?: Variant) => {
  const examples = tokens.map((ids) => ({ ids, first: 1 }))
  scores.set(id, await evaluation.score(examples, variant))
}
await scoreAll(undefined)
for (const { id, url } of entries) {
  const variant = await expertVariant(evaluation.base, join(folder, url))
  await scoreAll(id, variant)
  await variant.close()
}
await evaluation.close()

const experts = entries.map(({ id, label }) => ({ id, label }) as Expert)
const index = readIndex(new Uint8Array(readFileSync(join(folder, registry.index!.url))), 'index')
const names = {
  table: index.table,
  idOf: (owner: number) => index.experts[owner]!.id,
  labelOf: () => undefined,
}
const saved = (at: number, id: string) => {
  const bits = (of?: string) => scores.get(of)![at]!.bits / scores.get(of)![at]!.tokens
  return bits() - bits(id)
}

let at = 0
const rows: { of: string; likely: boolean[]; first: boolean[]; nGrams: boolean[]; saved: number[] }[] = []
for (const { id, texts: own } of requests) {
  const row = { of: id ?? 'none', likely: [], first: [], nGrams: [], saved: [] } as (typeof rows)[number]
  for (const text of own) {
    const route = await routeByLikelihood(text, experts, {
      tokenize: async () => tokens[at]!,
      score: async (_, expert) => ({ bytes: text.length, ...scores.get(expert?.id)![at]! }),
    })
    row.likely.push(route.chosen?.id === id)
    row.first.push(route.ranking[0]!.id === id)
    row.nGrams.push(routeIn(text, names).chosen?.id === id)
    row.saved.push(Math.max(...entries.map((entry) => saved(at, entry.id))))
    at++
  }
  rows.push(row)
}
console.log(
  'requests of    n    likelihood chooses rightly   likeliest is right   n-grams   bits a token saved at best',
)
for (const { of, likely, first, nGrams, saved: bits } of rows) {
  const mean = bits.reduce((sum, each) => sum + each, 0) / bits.length
  console.log(
    `${of.padEnd(12)} ${String(likely.length).padStart(3)}    ${percent(likely)}   ${of === 'none' ? '–' : percent(first)}   ${percent(nGrams)}   ${mean.toFixed(2)}`,
  )
}
const skilled = rows.filter(({ of }) => of !== 'none')
for (const [name, of] of [
  ['likelihood', skilled.flatMap(({ likely }) => likely)],
  ['likeliest', skilled.flatMap(({ first }) => first)],
  ['n-grams', skilled.flatMap(({ nGrams }) => nGrams)],
] as const)
  console.log(`all skills, ${name}: ${percent(of)}`)

function read(path: string): string[] {
  return readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { user: string }).user)
}

function some(all: readonly string[]): string[] {
  const count = Math.min(all.length, Number(values.requests))
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)
}

function percent(hits: readonly boolean[]): string {
  const p = hits.filter(Boolean).length / hits.length
  return `${(100 * p).toFixed(1)} ± ${(100 * Math.sqrt((p * (1 - p)) / hits.length)).toFixed(1)} %`
}
