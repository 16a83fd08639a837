import { writeFile } from 'node:fs/promises'
import type { Example } from '../engine/answered_example.ts'
import type { Evaluation } from './evaluation.ts'
import type { LogitsFile } from './logits_file.ts'
import type { ExampleScore } from './scores.ts'
import { expertVariant } from './variants.ts'

/** Positions of what points are compared with, in their scores. */
export const BESIDE = { base: 0, uncompressed: 1 } as const

/** Scores expert files on some examples, beside the base and the uncompressed task vector. */
export class SweepEvaluation {
  readonly base: readonly ExampleScore[]
  readonly uncompressed: readonly ExampleScore[]
  readonly #evaluation: Evaluation
  readonly #examples: readonly Example[]
  readonly #beside: readonly LogitsFile[]

  private constructor(
    evaluation: Evaluation,
    examples: readonly Example[],
    beside: readonly LogitsFile[],
    scores: Pick<SweepEvaluation, 'base' | 'uncompressed'>,
  ) {
    this.#evaluation = evaluation
    this.#examples = examples
    this.#beside = beside
    this.base = scores.base
    this.uncompressed = scores.uncompressed
  }

  /**
   * @param uncompressed - path of the task vector in the container of experts
   * @param onExample - called after each example of the two
   */
  static async open(
    evaluation: Evaluation,
    examples: readonly Example[],
    uncompressed: string,
    onExample?: () => void,
  ): Promise<SweepEvaluation> {
    const beside = [await evaluation.logitsFile(), await evaluation.logitsFile()]
    const base = await evaluation.score(examples, {}, { keep: beside[BESIDE.base], onExample })
    const variant = await expertVariant(evaluation.base, uncompressed)
    const scores = await evaluation.score(examples, variant, {
      beside: [beside[BESIDE.base]],
      keep: beside[BESIDE.uncompressed],
      onExample,
    })
    await variant.close()
    return new SweepEvaluation(evaluation, examples, beside, { base, uncompressed: scores })
  }

  /** @param onExample - called after each example */
  async score(file: Uint8Array, onExample?: () => void): Promise<readonly ExampleScore[]> {
    const path = this.#evaluation.scratch('point.trit')
    await writeFile(path, file)
    const variant = await expertVariant(this.#evaluation.base, path)
    const scores = await this.#evaluation.score(this.#examples, variant, { beside: this.#beside, onExample })
    await variant.close()
    return scores
  }

  async close(): Promise<void> {
    for (const file of this.#beside) await file.close()
  }
}
