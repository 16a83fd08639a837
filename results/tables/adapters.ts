/** (c) One fine-tuning in many shapes, as it is and compressed: bytes against quality. */
import { join } from 'node:path'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { drawn, sized } from '../chart.ts'
import type { DemoBench } from '../demo.ts'
import { f16Bytes, loraWays, makeAdapter, makeFull, termsWay, UNCOMPRESSED } from '../make.ts'
import { demoNorms } from '../models.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import { markdown, NOT_YET, threeOf } from '../text.ts'

const EXPERTS = ['bard', 'css'] as const
const ADAPTERS = ['ia3', 'lora2', 'lora8', 'lora32'] as const

/** Ways to compress, by kind. */
const waysOf = (kind: string): Record<string, RuleOptions> =>
  kind === 'ia3' ? IA3 : { [termsWay(1)]: { terms: 1 }, ...loraWays(Number(kind.slice('lora'.length))) }
const IA3: Record<string, RuleOptions> = { '50 %': {} }
const FULL: Record<string, RuleOptions> = {
  '2 %': { density: 0.02 },
  '5 %': { density: 0.05 },
  '10 %': { density: 0.1 },
  '20 %': { density: 0.2 },
}

export function demoRows(benches: Benches): Row[] {
  const rows: Row[] = []
  for (const expert of EXPERTS) {
    for (const kind of ADAPTERS) {
      const folder = (bench: DemoBench) => join(bench.source, 'peft', expert, kind)
      const file = (bench: DemoBench) => join(folder(bench), 'adapter_model.safetensors')
      rows.push({
        key: `${expert} ${kind} raw`,
        async measure() {
          const bench = await benches.demo()
          const path = bench.scratch('raw.trit')
          await makeAdapter(bench.base, folder(bench), UNCOMPRESSED, path)
          return { ...(await bench.expert(expert, path)), bytes: await f16Bytes(file(bench)) }
        },
      })
      for (const [way, options] of Object.entries(waysOf(kind))) {
        rows.push({
          key: `${expert} ${kind} ${way}`,
          async measure() {
            const bench = await benches.demo()
            const path = bench.scratch('made.trit')
            const bytes = await makeAdapter(bench.base, folder(bench), options, path)
            return { ...(await bench.expert(expert, path)), bytes }
          },
        })
      }
    }
    for (const [way, options] of Object.entries(FULL)) {
      rows.push({
        key: `${expert} full ${way}`,
        async measure() {
          const bench = await benches.demo()
          const path = bench.scratch('made.trit')
          const bytes = await makeFull(bench.base, bench.finetuned(expert), options, path)
          return { ...(await bench.expert(expert, path)), bytes }
        },
      })
    }
    // Of the norms alone, trained apart.
    const norms = demoNorms(expert)
    if (norms === undefined) continue
    rows.push({
      key: `${expert} norms raw`,
      async measure() {
        const bench = await benches.demo()
        const path = bench.scratch('norms.trit')
        await makeFull(bench.base, norms, UNCOMPRESSED, path)
        return { ...(await bench.expert(expert, path)), bytes: await f16Bytes(norms) }
      },
    })
    rows.push({
      key: `${expert} norms ternary`,
      async measure() {
        const bench = await benches.demo()
        const path = bench.scratch('norms.trit')
        const bytes = await makeFull(
          bench.base,
          norms,
          { rule: 'published', density: 0.5, scale: 'unbiased' },
          path,
        )
        return { ...(await bench.expert(expert, path)), bytes }
      },
    })
  }
  return rows
}

const KINDS: Record<string, string> = {
  full: 'full',
  lora32: 'LoRA r = 32',
  lora8: 'LoRA r = 8',
  lora2: 'LoRA r = 2',
  ia3: '(IA)³',
  norms: 'norms alone',
}

export function adaptersPage(kept: Store): Page {
  const rows = kept.keys().map((key) => {
    const [expert, kind, ...way] = key.split(' ')
    return {
      key,
      expert,
      kind,
      way: way.join(' '),
      bytes: kept.number(key, 'bytes'),
      gain: kept.estimate(key, 'gain'),
    }
  })
  const fronts = EXPERTS.map((expert) => {
    const own = rows.filter((row) => row.expert === expert).sort((a, b) => a.bytes - b.bytes)
    return own.filter((row, i) => own.slice(0, i).every(({ gain }) => gain.value < row.gain.value))
  })
  const onFront = new Set(fronts.flat().map(({ key }) => key))
  const lines = Object.entries(KINDS).flatMap(([kind, label]) => {
    const ways = [...new Set(rows.filter((row) => row.kind === kind).map(({ way }) => way))]
    return ways
      .map((way) => ({ way, of: rows.filter((row) => row.kind === kind && row.way === way) }))
      .sort((a, b) => b.of[0].bytes - a.of[0].bytes)
      .map(({ way, of }) => [
        `${label}, ${way === 'raw' ? 'f16' : way}`,
        sized(of[0].bytes),
        ...EXPERTS.map((expert) => {
          const key = `${expert} ${kind} ${way}`
          return `${threeOf(kept, key)}${onFront.has(key) ? ' **front**' : ''}`
        }),
      ])
  })
  const isDone = EXPERTS.every((expert) =>
    ADAPTERS.every((kind) => kept.get(`${expert} ${kind} raw`) !== undefined),
  )
  return {
    title: '(c) One fine-tuning in many shapes: bytes against quality',
    text: `
Adapters that peft trained to do what a full fine-tuning of the demo base does (on text that the fine-tuning wrote), as they are and compressed,
beside that fine-tuning compressed. Cells as in (a). **front**: nothing smaller keeps more. The demo base has no biases, so BitFit is not among them; (h) has it.
A LoRA gets a term for two ranks where nothing is said, at least two.

${markdown(['', 'file', ...EXPERTS], lines)}

${isDone ? claims(fronts.flat()) : NOT_YET}
`,
    charts: Object.fromEntries(
      EXPERTS.map((expert) => [
        `adapters-${expert}.svg`,
        drawn({
          title: `${expert}: gain kept by bytes`,
          x: { title: 'bytes', ticks: [2e3, 1e4, 1e5, 1e6, 4e6], isLog: true, format: sized },
          y: { title: 'gain kept, %', ticks: [0, 20, 40, 60, 80, 100] },
          series: Object.entries(KINDS).map(([kind, label]) => ({
            name: label,
            isLine: kind === 'full',
            points: rows
              .filter((row) => row.kind === kind && row.expert === expert)
              .sort((a, b) => a.bytes - b.bytes)
              .map(({ bytes, gain, way }) => ({
                x: bytes,
                y: 100 * gain.value,
                se: 100 * gain.se,
                label: way === 'raw' ? 'f16' : way,
              })),
          })),
        }),
      ]),
    ),
  }
}

function claims(front: readonly { expert: string; kind: string; way: string }[]): string {
  const raw = front.filter(({ way }) => way === 'raw')
  return `- Of the ${front.length} files on both fronts ${raw.length} are uncompressed${raw.length === 0 ? '' : ` (${raw.map(({ expert, kind }) => `${expert} ${KINDS[kind]}`).join(', ')})`}. The paper says that a compressed fine-tuning beats smaller adapters at equal bytes:
  **${raw.every(({ kind }) => kind === 'norms' || kind === 'ia3') ? 'confirmed' : 'confirmed in part'}** here.
- The adapters were trained for 200 steps without a search for better settings: they could do better.`
}
