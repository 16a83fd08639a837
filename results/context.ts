import { join } from 'node:path'
import { DemoBench } from './demo.ts'
import { LabelBench } from './labelled.ts'
import { makeFull, UNCOMPRESSED } from './make.ts'
import { ASSERTION, type AssertionWidth, CLINIC } from './models.ts'
import type { Benches } from './row.ts'

/** Labelled texts that a choice is made on: half of those that there are. */
const VALID_TEXTS = 100
/** Of each clinical task. */
const CLINIC_TEXTS = 200

/** What rows are measured on, opened once and closed together. */
export class OpenBenches implements Benches {
  readonly #root: string
  readonly #source: string
  readonly #opened = new Map<string, Promise<DemoBench | LabelBench>>()

  /** @param source - folder of the demo's fine-tunings */
  constructor(root: string, source: string) {
    this.#root = root
    this.#source = source
  }

  demo(): Promise<DemoBench> {
    return this.#once('demo', () => DemoBench.open(this.#root, this.#source))
  }

  assertion(split: 'valid' | 'test', width: AssertionWidth = 96): Promise<LabelBench> {
    return this.#once(`assertion ${split} ${width}`, async () => {
      const bench = await LabelBench.open(
        ASSERTION.base(width),
        ASSERTION.labels(split),
        split === 'valid' ? VALID_TEXTS : undefined,
      )
      const path = bench.scratch('full.trit')
      await makeFull(bench.base, ASSERTION.full(width), UNCOMPRESSED, path)
      await bench.figures(await bench.changedBy(path), { reference: true })
      return bench
    })
  }

  clinic(task: string): Promise<LabelBench> {
    return this.#once(`clinic ${task}`, () =>
      LabelBench.open(CLINIC.base, CLINIC.labels(task, 'test'), CLINIC_TEXTS),
    )
  }

  #once<T extends DemoBench | LabelBench>(key: string, open: () => Promise<T>): Promise<T> {
    const found = (this.#opened.get(key) as Promise<T> | undefined) ?? open()
    this.#opened.set(key, found)
    return found
  }

  async close(): Promise<void> {
    for (const bench of this.#opened.values()) await (await bench).close()
  }
}

/** Where the demo's fine-tunings lie beside a checkout. */
export const DEMO_SOURCE = join(import.meta.dirname, '../../shared/demo-model')
