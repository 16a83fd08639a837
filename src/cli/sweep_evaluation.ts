import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compressTaskVector } from '../compress/compress.ts'
import type { RuleOptions } from '../compress/rules.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { memorySpool } from '../format/writer.ts'
import type { TensorValues } from '../reference/index.ts'
import { Evaluation, type EvaluationText, type WindowRange } from './evaluation.ts'
import { readText } from './file_source.ts'
import { gainRetained } from './scores.ts'
import { expertVariant, finetunedTensors } from './variants.ts'

/** Figures of a point of the sweep on the text; `gainKept` is null where the fine-tuning gains nothing. */
export interface PointScore {
  bpb: number
  gainKept: number | null
  agreement: number
  kl: number
}

/** Scores expert files on one text, against the uncompressed task vector. */
export class SweepEvaluation {
  readonly #evaluation: Evaluation
  readonly #text: EvaluationText
  readonly #windows: WindowRange
  readonly #folder: string
  readonly #finetuned: TensorValues
  /** Bits per byte. */
  base?: number
  finetuned?: number

  private constructor(
    evaluation: Evaluation,
    text: string,
    windows: WindowRange,
    folder: string,
    finetuned: TensorValues,
  ) {
    this.#evaluation = evaluation
    this.#text = evaluation.text(text)
    this.#windows = windows
    this.#folder = folder
    this.#finetuned = finetuned
  }

  /** @param base - folder written by `tritswap prepare` */
  static async open(
    base: string,
    text: string,
    windows: WindowRange,
    task: TaskVector,
    { include, exclude }: RuleOptions,
  ): Promise<SweepEvaluation> {
    const evaluation = await Evaluation.open(base)
    const folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
    try {
      // The uncompressed expert in the same container, so that adapters are scored like fine-tunings.
      const spool = memorySpool()
      const uncompressed = { include, exclude, dense: ['*'], denseDtype: 'f32' } as const
      const { head } = await compressTaskVector(task, uncompressed, { spool })
      const path = join(folder, 'uncompressed.trit')
      await writeFile(path, spool.join(head))
      const finetuned = await finetunedTensors(evaluation.base, path)
      return new SweepEvaluation(evaluation, await readText(text), windows, folder, finetuned)
    } catch (error) {
      await evaluation.close()
      await rm(folder, { recursive: true })
      throw error
    }
  }

  async score(files: readonly Uint8Array[]): Promise<PointScore[]> {
    const variants = []
    const path = join(this.#folder, 'point.trit')
    for (const file of files) {
      await writeFile(path, file)
      variants.push(await expertVariant(this.#evaluation.base, path))
    }
    const { base, finetuned, ...scores } = await this.#evaluation.score(this.#text, this.#windows, {
      finetuned: this.#finetuned,
      variants,
    })
    this.base = base.bpb
    this.finetuned = finetuned!.bpb
    return scores.variants.map(({ bpb, agreement, kl }) => ({
      bpb,
      gainKept: gainRetained(base.bpb, finetuned!.bpb, bpb) ?? null,
      agreement: agreement!,
      kl: kl!,
    }))
  }

  async close(): Promise<void> {
    await this.#evaluation.close()
    await rm(this.#folder, { recursive: true })
  }
}
