/** (b) What each part of the rule is worth: positions, signs, magnitudes. */

import { drawn } from '../chart.ts'
import { TEST } from '../demo.ts'
import { makeFull } from '../make.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import {
  addedTo,
  type Deltas,
  deltasOf,
  meanMagnitude,
  pruned,
  randomPositions,
  signs,
  thinned,
} from '../task.ts'
import { hasAll, markdown, meanOf, NOT_YET, number, threeOf } from '../text.ts'
import { bestAlpha } from './density_alpha.ts'

const EXPERTS = ['bard', 'css'] as const
const DENSITIES = [0.05, 0.2] as const
/** By their names in the table: what they are, and the bits of a weight. */
export const RULES = {
  pruned: { label: 'largest entries as they are (f16)', rule: pruned },
  signs: { label: 'signs of all entries, one magnitude a tensor', rule: signs },
  mean: { label: 'largest entries, mean magnitude', rule: meanMagnitude },
  random: { label: 'random entries, true signs', rule: randomPositions },
} as const

export function demoRows(benches: Benches, alphas: Store): Row[] {
  const deltas = new Map<string, Promise<Deltas>>()
  const rows: Row[] = []
  for (const expert of EXPERTS) {
    for (const density of DENSITIES) {
      for (const [name, { rule }] of Object.entries(RULES)) {
        if (name === 'signs' && density !== DENSITIES[0]) continue
        rows.push({
          key: `${expert} ${name} ${density}`,
          async measure() {
            const bench = await benches.demo()
            const all = deltas.get(expert) ?? deltasOf(bench.base, bench.finetuned(expert))
            deltas.set(expert, all)
            return bench.figures(expert, { change: addedTo(thinned(await all, rule, density)) }, TEST)
          },
        })
      }
      rows.push({
        key: `${expert} published ${density}`,
        async measure() {
          const bench = await benches.demo()
          const path = bench.scratch('published.trit')
          const options = { rule: 'published', density } as const
          const bytes = await makeFull(bench.base, bench.finetuned(expert), options, path)
          const alpha = bestAlpha(alphas, `${expert} global ${density}`)
          return { ...(await bench.expert(expert, path, alpha)), bytes, alpha }
        },
      })
      rows.push({
        key: `${expert} ours ${density}`,
        async measure() {
          const bench = await benches.demo()
          const path = bench.scratch('ours.trit')
          const bytes = await makeFull(bench.base, bench.finetuned(expert), { density }, path)
          return { ...(await bench.expert(expert, path)), bytes }
        },
      })
    }
  }
  return rows
}

const ALL: Record<string, string> = {
  ...Object.fromEntries(Object.entries(RULES).map(([name, { label }]) => [name, label])),
  published: "the paper's rule, global, best α",
  ours: 'ours: balanced by row and column, unbiased scale',
}

export function ablationPage(kept: Store): Page {
  const lines = Object.entries(ALL).map(([name, label]) => [
    label,
    ...DENSITIES.flatMap((density) =>
      EXPERTS.map((expert) =>
        name === 'signs' && density !== DENSITIES[0] ? '' : threeOf(kept, `${expert} ${name} ${density}`),
      ),
    ),
  ])
  const series = Object.entries(ALL).map(([name, label]) => ({
    name: label.split(/[,:]/)[0].slice(0, 24),
    points: DENSITIES.flatMap((density, at) =>
      EXPERTS.flatMap((expert, i) => {
        const key = `${expert} ${name} ${density}`
        if (kept.get(key)?.kl === undefined) return []
        const { value, se } = kept.estimate(key, 'kl')
        return [{ x: 2 * at + i + 1, y: Math.max(0.01, value), se }]
      }),
    ),
  }))
  const kl = (name: string, density: number) =>
    meanOf(EXPERTS.map((expert) => kept.estimate(`${expert} ${name} ${density}`, 'kl')))
  const keys = EXPERTS.flatMap((expert) =>
    Object.keys(ALL).map((name) => `${expert} ${name} ${DENSITIES[0]}`),
  )
  const said = hasAll(kept, keys)
    ? `
- Ternarizing costs little beside pruning. At k = 5 % the mean KL is ${number(kl('pruned', 0.05))} bits for the entries as they are (16 bits each),
  ${number(kl('published', 0.05))} for the paper's rule at its best α, and ${number(kl('ours', 0.05))} for ours, which needs no search.
- The paper says that signs and one magnitude are enough. **Confirmed with a condition**: the magnitude must make up for what is left out. The mean magnitude of
  the kept entries (STC) has ${number(kl('mean', 0.05))}; positions drawn at random, at the same size and with true signs, have ${number(kl('random', 0.05))}.
- One bit for every weight (signs alone) has ${number(kl('signs', 0.05))}, at three times the bytes of k = 5 %.
`
    : `\n${NOT_YET}\n`
  return {
    title: '(b) What positions, signs and magnitudes are worth',
    text: `
The same fine-tunings and windows as in (a); cells as there. Vectors (norms) stay as they are in the first four rows.

${markdown(['', ...DENSITIES.flatMap((density) => EXPERTS.map((expert) => `${expert}, k = ${100 * density} %`))], lines)}
${said}`,
    charts: {
      'ablation.svg': drawn({
        title: 'KL from the fine-tuning, by rule (lower is closer)',
        x: {
          title: '',
          ticks: [0.5, 1, 2, 3, 4, 4.5],
          format: (x) => ['bard 5 %', 'css 5 %', 'bard 20 %', 'css 20 %'][x - 1] ?? '',
        },
        y: { title: 'KL, bits a token', ticks: [0.01, 0.03, 0.1, 0.3, 1, 3], isLog: true },
        series,
      }),
    },
  }
}
