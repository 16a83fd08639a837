import { type Batch, WORK_LIMIT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { type Kernel, targetKernels } from '../kernel.ts'
import { shaderConstants } from '../shader_constants.ts'
import type { TargetDtype } from '../target.ts'
import { termsLayout } from '../terms_form.ts'
import type { ChangeOfSet } from './delta_jobs.ts'

const { ENTRIES_PER_WORD } = shaderConstants('term_vectors', ['ENTRIES_PER_WORD'])

/** Adds ternary rank-1 terms to weights, one tensor of an expert after the other. */
export class TermsMerge {
  readonly #kernels: Record<TargetDtype, Kernel>

  static async create(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>): Promise<TermsMerge> {
    const { terms } = await targetKernels(gpu, ['terms'], dtypes)
    return new TermsMerge(terms)
  }

  private constructor(kernels: Record<TargetDtype, Kernel>) {
    this.#kernels = kernels
  }

  /** Records the terms of one change, in the order of the set; does nothing where it has none. */
  record(batch: Batch, arena: () => GPUBuffer, { set, change: { plan, placement } }: ChangeOfSet): void {
    for (const { entry, index, tensor, weight } of plan.terms) {
      const { words } = set.entries[entry].expert.spanOf(index)
      const { rows, cols, terms: count, x, y } = termsLayout(tensor)
      const { offset, rowStride, colStride } = placement
      // The axis whose entries are neighbours in memory, so that neighbouring invocations write neighbouring words.
      const [along, across] =
        rowStride < colStride
          ? [
              { entries: rows, step: rowStride, words: x },
              { entries: cols, step: colStride, words: y },
            ]
          : [
              { entries: cols, step: colStride, words: y },
              { entries: rows, step: rowStride, words: x },
            ]
      const params = {
        along: along.entries,
        across: across.entries,
        offset,
        along_step: along.step,
        across_step: across.step,
        count,
        weight,
        scales: words,
        along_words: words + along.words,
        across_words: words + across.words,
      }
      const acrossWords = Math.ceil(across.entries / ENTRIES_PER_WORD)
      const workOfWord = along.entries * ENTRIES_PER_WORD * count
      const step = Math.max(1, Math.floor(WORK_LIMIT / workOfWord))
      for (let first = 0; first < acrossWords; first += step) {
        const end = Math.min(acrossWords, first + step)
        batch.dispatch(
          this.#kernels[placement.dtype],
          { weights: { buffer: placement.buffer }, arena: { buffer: arena() } },
          { ...params, first_word: first, end_word: end },
          (end - first) * along.entries,
          (end - first) * workOfWord,
        )
      }
    }
  }
}
