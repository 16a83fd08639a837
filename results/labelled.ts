/**
 * Variants of the small models that read clinical sentences, on labelled texts.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LabelRun } from '../src/cli/eval_labels.ts'
import { LabelledModel } from '../src/cli/labelled_model.ts'
import { parseLabelled } from '../src/cli/labels.ts'
import { safetensorsHead } from '../src/compress/safetensors.ts'
import type { TensorValues } from '../src/reference/index.ts'
import type { Figures } from './store.ts'
import type { Deltas } from './task.ts'

/** A model, a test of it, and the uncompressed fine-tuning that variants are compared with. */
export class LabelBench {
  readonly model: LabelledModel
  /** The base as a checkpoint. */
  readonly base: string
  /** Of the base itself. */
  readonly baseFigures: Figures
  readonly #run: LabelRun
  readonly #folder: string
  #files = 0

  private constructor(
    model: LabelledModel,
    run: LabelRun,
    folder: string,
    base: string,
    baseFigures: Figures,
  ) {
    this.model = model
    this.baseFigures = baseFigures
    this.#run = run
    this.#folder = folder
    this.base = base
  }

  /**
   * @param model - prepared folder
   * @param labels - file of labelled texts
   * @param tensors - names of the base's tensors in the checkpoint
   */
  static async open(model: string, labels: string, limit?: number): Promise<LabelBench> {
    const opened = await LabelledModel.open(model, { anyCheckpoint: true })
    const rows = parseLabelled(readFileSync(labels, 'utf8'), labels).slice(0, limit)
    const run = new LabelRun(
      opened,
      rows.map((row) => opened.example(row)),
    )
    const { exact, bitsPerToken, macroF1 } = await run.base()
    const folder = await mkdtemp(join(tmpdir(), 'tritswap-results-'))
    const base = join(folder, 'base.safetensors')
    await writeFile(base, checkpointOf(opened))
    return new LabelBench(opened, run, folder, base, { exact, bits: bitsPerToken, macroF1 })
  }

  scratch(name: string): string {
    return join(this.#folder, `${++this.#files}-${name}`)
  }

  /**
   * Accuracy (or exact answers) of the base with changed tensors.
   * @param reference - remembers the variant as what later ones are compared with
   */
  async figures(changed: TensorValues, { reference = false } = {}): Promise<Figures> {
    const { exact, bitsPerToken, toUncompressed, macroF1 } = await this.#run.variant(
      { changed, variants: new Map() },
      { name: 'reference', isKept: reference, uncompressed: reference ? undefined : 'reference' },
    )
    return {
      exact,
      bits: bitsPerToken,
      macroF1,
      ...(toUncompressed && {
        difference: toUncompressed.exact,
        agreement: toUncompressed.agreement,
        kl: toUncompressed.kl,
      }),
    }
  }

  /** Tensors as an expert file changes them, times a weight. */
  async changedBy(path: string, weight = 1): Promise<TensorValues> {
    const admitted = await this.model.admit(path)
    return (await this.model.bind([admitted], [weight])).changed
  }

  /** Tensors with deltas added to the base's. */
  added(deltas: Deltas): TensorValues {
    const { tensors } = this.model.weights
    return new Map(
      Array.from(deltas, ([name, { values }]) => [
        name,
        tensors.get(name)!.map((value, i) => value + values[i]),
      ]),
    )
  }

  async expert(path: string, weight = 1): Promise<Figures> {
    return this.figures(await this.changedBy(path, weight))
  }

  async close(): Promise<void> {
    await this.#run.close()
    await this.model.close()
    await rm(this.#folder, { recursive: true })
  }
}

/** The base's floats as safetensors. */
function checkpointOf({ weights }: LabelledModel): Uint8Array {
  const tensors = [...weights.tensors].map(([name, values]) => ({
    name,
    dtype: 'F32' as const,
    shape: weights.shapeOf(name),
    values,
  }))
  const head = safetensorsHead(tensors)
  return Buffer.concat([
    head,
    ...tensors.map(({ values }) => Buffer.from(values.buffer, values.byteOffset, values.byteLength)),
  ])
}
