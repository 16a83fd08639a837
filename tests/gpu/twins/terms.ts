import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { floatOf, type Target } from './target.ts'

const { ENTRIES_PER_WORD } = shaderConstants('term_vectors', ['ENTRIES_PER_WORD'])

/** `Terms` of shaders/terms.wgsl. */
export interface TermsJob {
  along: number
  across: number
  offset: number
  along_step: number
  across_step: number
  first_word: number
  end_word: number
  count: number
  weight: number
  scales: number
  along_words: number
  across_words: number
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

/** Twin of shaders/terms.wgsl. */
export function terms(job: TermsJob, target: Target, arena: Uint32Array): void {
  const { along, across, count } = job
  const scales = Array.from({ length: count }, (_, t) =>
    Math.fround(Math.fround(job.weight) * floatOf(arena[job.scales + t])),
  )
  const end = Math.min(across, job.end_word * ENTRIES_PER_WORD)
  for (let i = 0; i < along; i++) {
    for (let j = job.first_word * ENTRIES_PER_WORD; j < end; j++) {
      let sum = 0
      for (let t = 0; t < count; t++) {
        const x = termEntry(arena, job.along_words, along, t, i)
        const y = termEntry(arena, job.across_words, across, t, j)
        sum = Math.fround(sum + Math.fround(Math.fround(scales[t] * x) * y))
      }
      const element = job.offset + i * job.along_step + j * job.across_step
      target.store(element, target.rawOf(Math.fround(target.valueOf(target.load(element)) + sum)))
    }
  }
}
