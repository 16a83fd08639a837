import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { floatOf, type Target } from './target.ts'

const { ENTRIES_PER_WORD } = shaderConstants('term_vectors', ['ENTRIES_PER_WORD'])
/** What the kernel has its entries times, and their scales over. */
const TOP = 2 ** 30

/** `Pair` of shaders/shared/terms_pass.wgsl. */
export type Pair = {
  scales: readonly [number, number]
  weights: readonly [number, number]
  along: readonly [number, number]
  across: readonly [number, number]
}

/** `Terms` of shaders/shared/terms_pass.wgsl, as far as it says what is computed. */
export interface TermsJob {
  along: number
  across: number
  offset: number
  along_step: number
  across_step: number
  pairs: number
  pair: readonly Pair[]
}

/** Entry `i` of vector `term`: shaders/shared/term_vectors.wgsl. */
export function termEntry(
  arena: Uint32Array,
  words: number,
  length: number,
  term: number,
  i: number,
): number {
  const word = arena[words + term * Math.ceil(length / ENTRIES_PER_WORD) + Math.floor(i / ENTRIES_PER_WORD)]
  return (word << (30 - 2 * (i % ENTRIES_PER_WORD))) >> 30
}

/**
 * Twin of shaders/terms.wgsl, and with `base` of shaders/terms_blocks.wgsl.
 * @param base - weights by their entry along and across, rounded as the target has them; those of the target by default
 */
export function terms(
  job: TermsJob,
  target: Target,
  arena: Uint32Array,
  base?: (i: number, j: number) => number,
): void {
  const { along, across } = job
  const pairs = job.pair.slice(0, job.pairs)
  const entry = (words: number, i: number) => termEntry(arena, words, 0, 0, i)
  for (let i = 0; i < along; i++) {
    const values = pairs.map((pair) =>
      [0, 1].map((t) => {
        const scale = Math.fround(Math.fround(pair.weights[t]) * floatOf(arena[pair.scales[t]]))
        return Math.fround((scale * entry(pair.along[t], i)) / TOP)
      }),
    )
    for (let j = 0; j < across; j++) {
      const sums = pairs.map((pair, k) => {
        const [a, b] = [0, 1].map((t) => Math.fround(values[k][t] * entry(pair.across[t], j) * TOP))
        return Math.fround(a + b)
      })
      const sum = sums.reduce((all, more) => Math.fround(all + more))
      const element = job.offset + i * job.along_step + j * job.across_step
      const value = base === undefined ? target.valueOf(target.load(element)) : base(i, j)
      target.store(element, target.rawOf(Math.fround(value + sum)))
    }
  }
}
