/**
 * (a), (b), (c) and (i) on a classifier whose fine-tunings are in the repository: clinical assertion.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { drawn, sized } from '../chart.ts'
import type { LabelBench } from '../labelled.ts'
import { f16Bytes, loraWays, makeAdapter, makeFull, UNCOMPRESSED } from '../make.ts'
import { ASSERTION } from '../models.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Figures, Store } from '../store.ts'
import { deltasOf, rounded4Bit, thinned } from '../task.ts'
import { hasAll, markdown, NOT_YET, percent, threeOf } from '../text.ts'
import { RULES } from './ablation.ts'

const DENSITIES = [0.05, 0.1, 0.2, 0.3, 0.5] as const
const ALPHAS = [0.5, 1, 2, 3, 5] as const
const THRESHOLDS = ['global', 'tensor'] as const
const ABLATED = [0.05, 0.2] as const
const LORA_KINDS = ['lora2', 'lora8', 'lora32'] as const
const PARTS = ['bitfit', 'norms'] as const

/** Of the adapters of (i). */
const LORA8 = loraWays(8)
const FULL = [0.02, 0.05, 0.1, 0.2] as const

export function assertionRows(benches: Benches): Row[] {
  return [...shapeRows(benches), ...gridRows(benches), ...ablationRows(benches), ...fourBitRows(benches)].map(
    (row) => ({
      ...row,
      isQuick: true,
    }),
  )
}

/** An expert of the full fine-tuning. */
async function full(bench: LabelBench, options: RuleOptions) {
  const path = bench.scratch('full.trit')
  return { path, bytes: await makeFull(bench.base, ASSERTION.full(), options, path) }
}

function gridRows(benches: Benches): Row[] {
  const rows: Row[] = []
  for (const threshold of THRESHOLDS) {
    for (const density of DENSITIES) {
      const what = `${threshold} ${density}`
      const options = { rule: 'published', threshold, density } as const
      rows.push({
        key: `valid ${what}`,
        async measure() {
          const bench = await benches.assertion('valid')
          const { path } = await full(bench, options)
          const found: Figures = {}
          for (const alpha of ALPHAS) {
            const { kl, agreement } = await bench.expert(path, alpha)
            found[`kl ${alpha}`] = kl
            found[`agreement ${alpha}`] = agreement
          }
          return found
        },
      })
      rows.push({
        key: `test ${what}`,
        async measure(kept) {
          const bench = await benches.assertion('test')
          const { path, bytes } = await full(bench, options)
          const alpha = bestAlpha(kept, what)
          return { ...(await bench.expert(path, alpha)), alpha, bytes }
        },
      })
    }
  }
  return rows
}

/** The alpha that is closest to the fine-tuning on the texts that choices are made on. */
function bestAlpha(kept: Store, what: string): number {
  const klOf = (alpha: number) => kept.estimate(`valid ${what}`, `kl ${alpha}`).value
  return ALPHAS.reduce<number>((best, alpha) => (klOf(alpha) < klOf(best) ? alpha : best), ALPHAS[0])
}

function ablationRows(benches: Benches): Row[] {
  const rows: Row[] = []
  for (const density of ABLATED) {
    for (const [name, { rule }] of Object.entries(RULES)) {
      if (name === 'signs' && density !== ABLATED[0]) continue
      rows.push({
        key: `ablation ${name} ${density}`,
        async measure() {
          const bench = await benches.assertion('test')
          const deltas = await deltasOf(bench.base, ASSERTION.full())
          return bench.figures(bench.added(thinned(deltas, rule, density)))
        },
      })
    }
  }
  return rows
}

function shapeRows(benches: Benches): Row[] {
  const rows: Row[] = [
    {
      key: 'base',
      async measure() {
        const bench = await benches.assertion('test')
        return bench.figures(new Map())
      },
    },
    {
      key: 'full raw',
      async measure() {
        const bench = await benches.assertion('test')
        const { path } = await full(bench, UNCOMPRESSED)
        return { ...(await bench.expert(path)), bytes: await f16Bytes(ASSERTION.full()) }
      },
    },
    ...FULL.map((density) => ({
      key: `full ${density}`,
      async measure() {
        const bench = await benches.assertion('test')
        const { path, bytes } = await full(bench, { density })
        return { ...(await bench.expert(path)), bytes }
      },
    })),
  ]
  for (const kind of [...LORA_KINDS, 'ia3'] as const) {
    const folder = ASSERTION.adapter(kind)
    if (!existsSync(folder)) continue
    const ways: Record<string, RuleOptions> = {
      raw: UNCOMPRESSED,
      ...(kind === 'ia3' ? { '50 %': { density: 0.5 } } : loraWays(Number(kind.slice('lora'.length)))),
    }
    for (const [way, options] of Object.entries(ways)) {
      rows.push({
        key: `${kind} ${way}`,
        async measure() {
          const bench = await benches.assertion('test')
          const path = bench.scratch('adapter.trit')
          const bytes = await makeAdapter(bench.base, folder, options, path)
          const raw = await f16Bytes(`${folder}/adapter_model.safetensors`)
          return { ...(await bench.expert(path)), bytes: way === 'raw' ? raw : bytes }
        },
      })
    }
  }
  for (const kind of PARTS) {
    const ways: Record<string, RuleOptions> = {
      raw: UNCOMPRESSED,
      '20 %': { density: 0.2, rule: 'published', ...OURS },
    }
    for (const [way, options] of Object.entries(ways)) {
      rows.push({
        key: `${kind} ${way}`,
        async measure() {
          const bench = await benches.assertion('test')
          const path = bench.scratch('part.trit')
          const bytes = await makeFull(bench.base, ASSERTION.part(kind), options, path)
          return {
            ...(await bench.expert(path)),
            bytes: way === 'raw' ? await f16Bytes(ASSERTION.part(kind)) : bytes,
          }
        },
      })
    }
  }
  return rows
}

/** Our own rule; `published` beside it keeps vectors that moved alone from being dense. */
const OURS = { score: 'balanced', threshold: 'tensor', scale: 'unbiased' } as const

/** (i) An adapter that was trained over a base in NF4, on that base and on the float one; beside it one trained on floats. */
function fourBitRows(benches: Benches): Row[] {
  const rows: Row[] = []
  for (const kind of ['lora8', 'qlora8']) {
    if (!existsSync(ASSERTION.adapter(kind))) continue
    for (const [way, options] of Object.entries({ raw: UNCOMPRESSED, ...LORA8 })) {
      for (const on of ['float', 'NF4']) {
        if (kind === 'lora8' && on === 'float') continue
        rows.push({
          key: `${kind} ${way} on ${on}`,
          async measure() {
            const bench = await benches.assertion('test')
            const path = bench.scratch('adapter.trit')
            await makeAdapter(bench.base, ASSERTION.adapter(kind), options, path)
            const changed = await bench.changedBy(path)
            if (on === 'float') return bench.figures(changed)
            const { tensors } = bench.model.weights
            const four = [...tensors].flatMap(([name, values]) => {
              const to = changed.get(name) ?? values
              if (!isLinear(name, bench.model.weights.shapeOf(name)))
                return changed.has(name) ? [[name, to] as const] : []
              const small = rounded4Bit(values)
              return [[name, to.map((value, i) => small[i] + (value - values[i]))] as const]
            })
            return bench.figures(new Map(four))
          },
        })
      }
    }
  }
  return rows
}

/** What `authoring/results/clinic_models.py` rounds: the matrices of the layers. */
function isLinear(name: string, shape: readonly number[]): boolean {
  return name.includes('encoder.layer') && shape.length === 2
}

const KINDS: Record<string, string> = {
  full: 'full',
  lora32: 'LoRA r = 32',
  lora8: 'LoRA r = 8',
  lora2: 'LoRA r = 2',
  ia3: '(IA)³',
  bitfit: 'BitFit (biases)',
  norms: 'norms alone',
}

export function assertionPage(kept: Store): Page {
  const keys = [
    'base',
    ...kept.keys().filter((key) => Object.keys(KINDS).includes(key.split(' ')[0]) && !key.includes(' on ')),
  ]
  const shapes = keys.slice(1).map((key) => {
    const [kind, ...way] = key.split(' ')
    const said = way.join(' ')
    return {
      key,
      kind,
      way: said === 'raw' ? 'f16' : said.startsWith('0.') ? `${100 * Number(said)} %` : said,
      bytes: kept.number(key, 'bytes'),
      exact: kept.estimate(key, 'exact'),
    }
  })
  const sorted = [...shapes].sort((a, b) => a.bytes - b.bytes)
  const front = sorted.filter((one, i) =>
    sorted.slice(0, i).every(({ exact }) => exact.value < one.exact.value),
  )
  const cell = (key: string) => threeOf(kept, key, 'exact')
  const grid = THRESHOLDS.map((threshold) => [
    threshold === 'tensor' ? 'by tensor' : 'global',
    ...DENSITIES.map((density) => {
      const key = `test ${threshold} ${density}`
      return kept.get(key) === undefined ? 'not run' : `${cell(key)} (α ${kept.number(key, 'alpha')})`
    }),
  ])
  const isGridDone = hasAll(
    kept,
    THRESHOLDS.flatMap((threshold) => DENSITIES.map((density) => `test ${threshold} ${density}`)),
  )
  const kl = (key: string) => kept.estimate(key, 'kl')
  const closer = isGridDone
    ? DENSITIES.filter((density) => kl(`test tensor ${density}`).value < kl(`test global ${density}`).value)
    : []
  const isShapeDone = hasAll(kept, ['full raw', 'full 0.05', 'full 0.2'])
  const four = ['lora8', 'qlora8'].flatMap((kind) =>
    FOUR_BIT_WAYS.map((way) => [
      `${kind === 'lora8' ? 'trained on floats' : 'trained on NF4'}, ${way === 'raw' ? 'as it is' : way}`,
      cell(kind === 'lora8' ? `lora8 ${way}` : `qlora8 ${way} on float`),
      cell(`${kind} ${way} on NF4`),
    ]),
  )
  return {
    title: '(h) A classifier: clinical assertion',
    text: `
An encoder of ${SIZE} weights, trained here: six classes of assertion (present, absent, possible, conditional, hypothetical, of the family) of a problem in a sentence, by templates.
400 test sentences; each phrasing is about problems that it is never about in training, and a fifth of the phrasings are new. It is measured by the code of \`tritswap eval --labels\`. Cells:
accuracy, % / agreement with the uncompressed full fine-tuning, % / KL, bits. Everything here is in the repository, and \`--quick\` measures all of it.

**(a)** The paper's whole grid, α chosen among ${ALPHAS.join(', ')} by KL on 100 other sentences:

${markdown(['', ...DENSITIES.map((density) => `k = ${100 * density} %`)], grid)}

**(b)** ${markdown(
      ['', ...ABLATED.map((density) => `k = ${100 * density} %`)],
      [
        ...Object.entries(RULES).map(([name, { label }]) => [
          label,
          ...ABLATED.map((density) =>
            name === 'signs' && density !== ABLATED[0] ? '' : cell(`ablation ${name} ${density}`),
          ),
        ]),
        ["the paper's rule, best α, global", ...ABLATED.map((density) => cell(`test global ${density}`))],
        ['ours, no search', ...ABLATED.map((density) => cell(`full ${density}`))],
      ],
    ).replace('| ', '\n\n| ')}

**(c)** In many shapes, as they are and compressed; the base alone has ${kept.get('base') === undefined ? 'not been run' : `${percent(kept.estimate('base', 'exact'))} %`}. **front**: nothing smaller is as good.

${markdown(
  ['', 'file', 'accuracy / agreement / KL'],
  Object.entries(KINDS).flatMap(([kind, label]) =>
    shapes
      .filter((one) => one.kind === kind)
      .sort((a, b) => b.bytes - a.bytes)
      .map((one) => [
        `${label}, ${one.way}`,
        sized(one.bytes),
        `${cell(one.key)}${front.includes(one) ? ' **front**' : ''}`,
      ]),
  ),
)}

**(i)** QLoRA: LoRA of rank 8 trained over the base in NF4 (rounded in torch, blocks of 64), used on the float base and on the NF4 base:

${markdown(['', 'on floats', 'on NF4'], four)}

${hasAll(kept, fourBitKeys().flat()) ? fourBitClaim(kept) : NOT_YET}

**All in all**

${isGridDone && isShapeDone ? `${claims(kept, closer.length)}\n${frontClaim(front)}` : NOT_YET}
`,
    charts: {
      'assertion.svg': drawn({
        title: 'Accuracy by bytes',
        x: { title: 'bytes', ticks: [1e3, 1e4, 1e5, 1e6], isLog: true, format: sized },
        y: { title: 'accuracy, %', ticks: [0, 20, 40, 60, 80, 100] },
        series: Object.entries(KINDS).map(([kind, label]) => ({
          name: label,
          isLine: kind === 'full',
          points: sorted
            .filter((one) => one.kind === kind)
            .map(({ bytes, exact, way }) => ({
              x: bytes,
              y: 100 * exact.value,
              se: 100 * exact.se,
              label: way,
            })),
        })),
      }),
      'qlora.svg': drawn({
        title: 'LoRA of rank 8 on floats and on NF4',
        x: {
          title: 'as it is and compressed: trained on floats; the same trained on NF4',
          ticks: [0.5, ...fourBitKeys().map((_, i) => i + 1), fourBitKeys().length + 0.5],
          format: (x) => (Number.isInteger(x) ? FOUR_BIT_LABELS[(x - 1) % FOUR_BIT_LABELS.length] : ''),
        },
        y: { title: 'accuracy, %', ticks: [0, 20, 40, 60, 80, 100] },
        series: ['on floats', 'on NF4'].map((name, on) => ({
          name,
          points: fourBitKeys().flatMap((keys, i) => {
            if (kept.get(keys[on]) === undefined) return []
            const { value, se } = kept.estimate(keys[on], 'exact')
            return [{ x: i + 1 + 0.1 * on, y: 100 * value, se: 100 * se }]
          }),
        })),
      }),
      'assertion-grid.svg': drawn({
        title: 'KL from the fine-tuning by α, on the sentences that α is chosen on',
        x: { title: 'α', ticks: [0.5, 1, 2, 3, 5], isLog: true },
        y: { title: 'KL, bits', ticks: [0.01, 0.1, 1, 10], isLog: true },
        series: DENSITIES.flatMap((density) => {
          const key = `valid global ${density}`
          if (kept.get(key) === undefined) return []
          const points = ALPHAS.map((alpha) => {
            const { value, se } = kept.estimate(key, `kl ${alpha}`)
            return { x: alpha, y: Math.max(0.01, value), se: Math.min(se, value / 2) }
          })
          return [{ name: `k = ${100 * density} %, global`, points, isLine: true }]
        }),
      }),
    },
  }
}

const SIZE = '0.32 M'
/** As they are, and compressed. */
const FOUR_BIT_WAYS = ['raw', ...Object.keys(LORA8)]

const FOUR_BIT_LABELS = FOUR_BIT_WAYS.map((way) => (way === 'raw' ? 'f16' : way.replace(' 20 %', '')))

/** Rows of (i): for each adapter and way, on floats and on NF4. */
function fourBitKeys(): [string, string][] {
  return ['lora8', 'qlora8'].flatMap((kind) =>
    FOUR_BIT_WAYS.map((way): [string, string] => [
      kind === 'lora8' ? `lora8 ${way}` : `qlora8 ${way} on float`,
      `${kind} ${way} on NF4`,
    ]),
  )
}

function fourBitClaim(kept: Store): string {
  const exact = (key: string) => kept.estimate(key, 'exact')
  const both = (way: string) =>
    `${percent(exact(`lora8 ${way}`))} % and ${percent(exact(`qlora8 ${way} on NF4`))} %`
  const pairs = fourBitKeys().map(([onFloats, onFour]) => [exact(onFloats), exact(onFour)])
  const apart = pairs.filter(([a, b]) => Math.abs(a.value - b.value) > 2 * Math.hypot(a.se, b.se)).length
  return `- An adapter can be trained on one base and used on the other: of ${pairs.length} pairs ${apart === 0 ? 'none differs' : `${apart} differ`} by more than two standard errors between floats and NF4. Trained on NF4 it has ${percent(exact('qlora8 raw on NF4'))} % there and
  ${percent(exact('qlora8 raw on float'))} % on floats. Compressed without data, two terms have ${both('2 terms')}, four (the default) ${both('4 terms')}, and factors at 20 % ${both('factors 20 %')}.`
}

function frontClaim(front: readonly { way: string }[]): string {
  const whole = front.filter(({ way }) => way === 'f16').length
  return `- Of the ${front.length} files on the front of (c) ${whole} ${whole === 1 ? 'is' : 'are'} uncompressed: that a compressed fine-tuning beats smaller adapters at equal bytes, as the paper says, is ${whole === 0 ? '**confirmed**' : '**contradicted in part**'} here${whole === 0 ? '' : ', where the norms alone nearly do the task'}.`
}

function claims(kept: Store, closer: number): string {
  const exact = (key: string) => percent(kept.estimate(key, 'exact'))
  const bytes = (key: string) => sized(kept.number(key, 'bytes'))
  return `- Uncompressed, the full fine-tuning has ${exact('full raw')} % in ${bytes('full raw')}; by our rule at 5 %, in ${bytes('full 0.05')}, ${exact('full 0.05')} %, and at 20 %, in ${bytes('full 0.2')}, ${exact('full 0.2')} %.
- One threshold a tensor is closer by KL than a global one at ${closer} of ${DENSITIES.length} densities: the paper's global one is ${closer * 2 > DENSITIES.length ? '**contradicted**' : '**confirmed**'} here.`
}
