/**
 * Variants of the demo's base on its texts: what `tritswap eval` measures, with a standard error over windows.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Evaluation } from '../src/cli/evaluation.ts'
import { readText } from '../src/cli/file_source.ts'
import type { LogitsFile } from '../src/cli/logits_file.ts'
import { closenessTo, type ExampleScore, ratio } from '../src/cli/scores.ts'
import { type TextWindow, textWindows, type WindowRange } from '../src/cli/text_windows.ts'
import { checkpointVariant, expertVariant, type Variant } from '../src/cli/variants.ts'
import type { Figures } from './store.ts'

/** Windows that are reported; choices are made on `VALID`. */
export const TEST: WindowRange = { from: 0, count: 6 }
export const VALID: WindowRange = { from: 24, count: 3 }

interface Reference {
  windows: TextWindow[]
  base: ExampleScore[]
  tuned: ExampleScore[]
  logits: LogitsFile
}

export class DemoBench {
  /** Where the uncompressed fine-tunings are: not in the repository. */
  readonly source: string
  readonly evaluation: Evaluation
  readonly #folder: string
  readonly #references = new Map<string, Promise<Reference>>()
  #files = 0

  private constructor(source: string, evaluation: Evaluation, folder: string) {
    this.source = source
    this.evaluation = evaluation
    this.#folder = folder
  }

  static async open(root: string, source: string): Promise<DemoBench> {
    const evaluation = await Evaluation.open(join(root, 'public/models/demo'), 1)
    return new DemoBench(source, evaluation, await mkdtemp(join(tmpdir(), 'tritswap-results-')))
  }

  /** The base as a checkpoint. */
  get base(): string {
    return join(this.source, 'base/model.safetensors')
  }

  finetuned(expert: string): string {
    return join(this.source, 'finetuned', expert, 'model.safetensors')
  }

  get hasFinetuned(): boolean {
    return existsSync(this.base)
  }

  scratch(name: string): string {
    return join(this.#folder, `${++this.#files}-${name}`)
  }

  async windows(expert: string, range: WindowRange): Promise<TextWindow[]> {
    const text = await readText(join(this.source, 'texts', `${expert}.txt`))
    return textWindows(text, this.evaluation.tokenizer, range)
  }

  /** Base and uncompressed fine-tuning on a text, measured once. */
  #reference(expert: string, range: WindowRange): Promise<Reference> {
    const key = `${expert} ${range.from} ${range.count}`
    const known = this.#references.get(key)
    if (known !== undefined) return known
    const found = (async () => {
      const windows = await this.windows(expert, range)
      const examples = windows.map(({ example }) => example)
      const base = await this.evaluation.score(examples)
      const variant = await checkpointVariant(this.evaluation.base, this.finetuned(expert))
      const logits = await this.evaluation.logitsFile()
      const tuned = await this.evaluation.score(examples, variant, { keep: logits })
      await variant.close()
      return { windows, base, tuned, logits }
    })()
    this.#references.set(key, found)
    return found
  }

  /** Share of the fine-tuning's gain that a variant keeps, and how close it is to the fine-tuning. */
  async figures(
    expert: string,
    variant: Partial<Pick<Variant, 'change' | 'bypass'>>,
    range: WindowRange = TEST,
  ): Promise<Figures> {
    const { windows, base, tuned, logits } = await this.#reference(expert, range)
    const scores = await this.evaluation.score(
      windows.map(({ example }) => example),
      variant,
      { beside: [logits] },
    )
    const pairs = scores.map((score, i) => ({
      kept: base[i].bits - score.bits,
      all: base[i].bits - tuned[i].bits,
    }))
    const { agreement, kl } = closenessTo(scores, 0)
    return {
      gain: ratio(
        pairs,
        ({ kept }) => kept,
        ({ all }) => all,
      ),
      agreement,
      kl,
      bpb: ratio(
        scores.map(({ bits }, i) => ({ bits, bytes: windows[i].bytes })),
        ({ bits }) => bits,
        ({ bytes }) => bytes,
      ),
      windows: windows.length,
    }
  }

  /** Of an expert file at a weight. */
  async expert(expert: string, path: string, weight = 1, range: WindowRange = TEST): Promise<Figures> {
    const variant = await expertVariant(this.evaluation.base, path, weight)
    try {
      return await this.figures(expert, variant, range)
    } finally {
      await variant.close()
    }
  }

  async close(): Promise<void> {
    for (const reference of this.#references.values()) await (await reference).logits.close()
    await this.evaluation.close()
    await rm(this.#folder, { recursive: true })
  }
}
