/** (g) How alike experts are, counted on the bits of the compressed files. */
import { join } from 'node:path'
import { withExpertFiles } from '../../src/cli/open_experts.ts'
import { compareExperts } from '../../src/compress/compare.ts'
import { drawn } from '../chart.ts'
import type { Benches, Page, Row } from '../row.ts'
import type { Store } from '../store.ts'
import { type Deltas, deltasOf } from '../task.ts'
import { markdown } from '../text.ts'

const EXPERTS = ['austen', 'bard', 'css', 'fairy', 'holmes', 'scripture'] as const
const FOLDER = join(import.meta.dirname, '../../public/experts')

export function similarityRows(benches: Benches): Row[] {
  return [
    {
      key: 'compressed',
      isQuick: true,
      measure: () =>
        withExpertFiles(
          EXPERTS.map((expert) => join(FOLDER, `${expert}.trit`)),
          async (experts) => {
            const { total } = await compareExperts(experts)
            return Object.fromEntries(
              pairs().flatMap(([i, j]) => [
                [`${EXPERTS[i]} ${EXPERTS[j]}`, total[i][j].cosine!],
                [`${EXPERTS[i]} ${EXPERTS[j]} signs`, total[i][j].signAgreement!],
              ]),
            )
          },
        ),
    },
    {
      key: 'uncompressed',
      async measure() {
        const bench = await benches.demo()
        const all: Deltas[] = []
        for (const expert of EXPERTS) all.push(await deltasOf(bench.base, bench.finetuned(expert)))
        const dot = (i: number, j: number) => {
          let sum = 0
          for (const [name, { values }] of all[i]) {
            const others = all[j].get(name)?.values
            if (others !== undefined) for (let k = 0; k < values.length; k++) sum += values[k] * others[k]
          }
          return sum
        }
        const norms = EXPERTS.map((_, i) => Math.sqrt(dot(i, i)))
        return Object.fromEntries(
          pairs().map(([i, j]) => [`${EXPERTS[i]} ${EXPERTS[j]}`, dot(i, j) / (norms[i] * norms[j])]),
        )
      },
    },
  ]
}

function pairs(): [number, number][] {
  return EXPERTS.flatMap((_, i) => EXPERTS.slice(i + 1).map((_, j): [number, number] => [i, i + 1 + j]))
}

export function similarityPage(kept: Store): Page {
  const compressed = kept.get('compressed')
  const whole = kept.get('uncompressed')
  const points = pairs().flatMap(([i, j]) => {
    const name = `${EXPERTS[i]} ${EXPERTS[j]}`
    if (compressed === undefined || whole === undefined) return []
    return [{ x: kept.number('uncompressed', name), y: kept.number('compressed', name), name }]
  })
  const correlation = points.length === 0 ? Number.NaN : correlationOf(points)
  const [alike] = [...points].sort((a, b) => b.y - a.y)
  return {
    title: '(g) How alike experts are, by bit operations',
    text: `
Cosines between the six writers, from the compressed files by AND, XOR and counts of bits (\`tritswap compare\`), and from the uncompressed task vectors in floats.

${markdown(
  ['', ...EXPERTS.slice(1)],
  EXPERTS.slice(0, -1).map((a, i) => [
    a,
    ...EXPERTS.slice(1).map((b, j) =>
      j < i
        ? ''
        : compressed === undefined
          ? 'not run'
          : `${kept.number('compressed', `${a} ${b}`).toFixed(3)}${whole === undefined ? '' : ` (${kept.number('uncompressed', `${a} ${b}`).toFixed(3)})`}`,
    ),
  ]),
)}

In brackets: uncompressed. ${points.length === 0 ? '' : `Over the ${points.length} pairs both have a correlation of ${correlation.toFixed(3)} ± ${((1 - correlation ** 2) / Math.sqrt(points.length - 2)).toFixed(3)}, and the same pair, ${alike.name.replace(' ', ' and ')}, is most alike in ${points.every(({ x }) => x <= alike.x) ? 'both' : 'one of them only'}. What is alike can be told from the bits.`}
`,
    charts: {
      'similarity.svg': drawn({
        title: 'Cosine of two experts: from bits, and from floats',
        x: { title: 'uncompressed', ticks: [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12] },
        y: { title: 'compressed', ticks: [0, 0.01, 0.02, 0.03, 0.04] },
        series: [{ name: 'a pair', points: points.map(({ x, y, name }) => ({ x, y, label: name })) }],
      }),
    },
  }
}

function correlationOf(points: readonly { x: number; y: number }[]): number {
  const mean = (of: (point: { x: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [mx, my] = [mean(({ x }) => x), mean(({ y }) => y)]
  const covariance = mean(({ x, y }) => (x - mx) * (y - my))
  return covariance / Math.sqrt(mean(({ x }) => (x - mx) ** 2) * mean(({ y }) => (y - my) ** 2))
}
