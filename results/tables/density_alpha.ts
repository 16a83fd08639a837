/** (a) The paper's rule over k and alpha, with one threshold a tensor or one for all. */

import { drawn } from '../chart.ts'
import { type DemoBench, TEST, VALID } from '../demo.ts'
import { makeFull } from '../make.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import { hasAll, markdown, NOT_YET, threeOf } from '../text.ts'

const EXPERTS = ['bard', 'css'] as const
const DENSITIES = [0.05, 0.2] as const
const ALPHAS = [1, 2, 3, 5, 8] as const
const THRESHOLDS = ['tensor', 'global'] as const

export function demoRows(benches: Benches): Row[] {
  const files = new Map<string, Promise<{ path: string; bytes: number }>>()
  const fileOf = (bench: DemoBench, expert: string, threshold: 'tensor' | 'global', density: number) => {
    const key = `${expert} ${threshold} ${density}`
    const path = bench.scratch('published.trit')
    const options = { rule: 'published', threshold, density } as const
    const made =
      files.get(key) ??
      makeFull(bench.base, bench.finetuned(expert), options, path).then((bytes) => ({ path, bytes }))
    files.set(key, made)
    return made
  }
  const rows: Row[] = []
  for (const expert of EXPERTS) {
    for (const threshold of THRESHOLDS) {
      for (const density of DENSITIES) {
        const what = `${expert} ${threshold} ${density}`
        for (const alpha of ALPHAS) {
          rows.push({
            key: `valid ${what} ${alpha}`,
            async measure() {
              const bench = await benches.demo()
              const { path } = await fileOf(bench, expert, threshold, density)
              return bench.expert(expert, path, alpha, VALID)
            },
          })
        }
        rows.push({
          key: `test ${what}`,
          async measure(kept) {
            const bench = await benches.demo()
            const { path, bytes } = await fileOf(bench, expert, threshold, density)
            const alpha = bestAlpha(kept, what)
            return { ...(await bench.expert(expert, path, alpha, TEST)), alpha, bytes }
          },
        })
      }
    }
  }
  return rows
}

/** The alpha that is closest to the fine-tuning on the windows that choices are made on. */
export function bestAlpha(kept: Store, what: string): number {
  const klOf = (alpha: number) => kept.estimate(`valid ${what} ${alpha}`, 'kl').value
  return ALPHAS.reduce((best, alpha) => (klOf(alpha) < klOf(best) ? alpha : best))
}

export function densityPage(kept: Store): Page {
  const lines = EXPERTS.flatMap((expert) =>
    THRESHOLDS.map((threshold) => [
      `${expert}, ${threshold === 'tensor' ? 'by tensor' : 'global'}`,
      ...DENSITIES.map((density) => {
        const key = `test ${expert} ${threshold} ${density}`
        return kept.get(key) === undefined
          ? 'not run'
          : `${threeOf(kept, key)} (α ${kept.number(key, 'alpha')})`
      }),
    ]),
  )
  const series = EXPERTS.flatMap((expert) =>
    THRESHOLDS.flatMap((threshold) => {
      const keys = ALPHAS.map((alpha) => `valid ${expert} ${threshold} 0.05 ${alpha}`)
      if (!hasAll(kept, keys)) return []
      const points = keys.map((key, i) => {
        const { value, se } = kept.estimate(key, 'gain')
        return { x: ALPHAS[i], y: 100 * value, se: 100 * se }
      })
      return [{ name: `${expert}, ${threshold}`, points, isLine: true }]
    }),
  )
  const better = EXPERTS.flatMap((expert) =>
    DENSITIES.flatMap((density) => {
      const [tensor, global] = THRESHOLDS.map((threshold) => `test ${expert} ${threshold} ${density}`)
      if (!hasAll(kept, [tensor, global])) return []
      return [kept.estimate(tensor, 'kl').value < kept.estimate(global, 'kl').value]
    }),
  )
  const alphas = EXPERTS.flatMap((expert) =>
    DENSITIES.flatMap((density) => {
      const key = `test ${expert} global ${density}`
      return kept.get(key) === undefined ? [] : [kept.number(key, 'alpha')]
    }),
  )
  return {
    title: '(a) How many entries, and what each is worth',
    text: `
Two full fine-tunings of the demo base (5.5 M weights) by the paper's rule: the largest |τ|, each worth α·std(τ). Cells: share of the
gain kept, % / top-1 agreement with the fine-tuning, % / KL, bits a token; on ${TEST.count} windows of 256 tokens, with the α in brackets
chosen by KL on ${VALID.count} others. The chart shows k = 5 % on those others.

${markdown(['', ...DENSITIES.map((density) => `k = ${100 * density} %`)], lines)}

${better.length === 0 ? NOT_YET : claims(alphas, better)}
`,
    charts: {
      'density-alpha.svg': drawn({
        title: 'Gain kept at k = 5 %, by α',
        x: { title: 'α', ticks: [1, 2, 3, 4, 5, 6, 7, 8] },
        y: { title: 'gain kept, %', ticks: [0, 20, 40, 60, 80, 100] },
        series,
      }),
    },
  }
}

function claims(alphas: readonly number[], better: readonly boolean[]): string {
  return `- The paper recommends α = 1 for large models and finds that small ones want more. **Confirmed** for small ones: the α chosen here under a
  global threshold are ${[...new Set(alphas)].sort((a, b) => a - b).join(', ')}, among ${ALPHAS.join(', ')}.
- The paper uses one threshold for all tensors. By KL, a threshold for each tensor is closer to the fine-tuning in ${better.filter(Boolean).length} of ${better.length} cells
  here: ${better.filter(Boolean).length * 2 > better.length ? '**contradicted**' : '**confirmed**'} on this model, which is small; (h) has the other small one.`
}
