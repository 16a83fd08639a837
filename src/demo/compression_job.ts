import { DEFAULT_DENSITY } from '../compress/defaults.ts'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import type { Pen } from '../element/pens.ts'
import { isAbortError } from '../errors.ts'
import { readHead } from '../format/head.ts'
import type { Expert } from '../loader/index.ts'
import { connectWorker, startWorker, type WorkerLink } from '../rpc/index.ts'
import { blobSource } from '../source/memory.ts'
import { folderUrl } from '../source/model_folder.ts'
import { type Agreement, type MeasuredText, measureAgreement } from './agreement.ts'
import type { Compressor, Made, Opened } from './compressor.ts'
import type { Brought } from './dropped_files.ts'
import { fetchText, heldOutTexts } from './measurement.ts'

/** Fractions of the entries to choose from. */
export const DENSITIES = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5]
/** Values to choose from, densest around 1, where the fitted scale is at its best. */
export const ALPHAS = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3, 4, 6, 8]

export const METHODS = { full: 'fine-tuning', lora: 'LoRA adapter', ia3: '(IA)³ adapter' }

/** Files of an adapter or a fine-tuning, to be compressed. */
export type BroughtWeights = Extract<Brought, { kind: 'weights' }>

let jobs = 0

/**
 * The compression of what a visitor brought, in a worker: as densely and as strongly as the visitor says. The result
 * becomes a pen, and its agreement with the uncompressed expert is measured.
 */
export class CompressionJob {
  /** Index in {@link DENSITIES}. */
  density = 0
  /** Index in {@link ALPHAS}. */
  alpha = ALPHAS.indexOf(1)
  /** Set once the headers are read. */
  opened?: Opened
  /** Fraction done of a compression under way. */
  progress?: number
  pen?: Pen
  agreement?: Agreement
  agreementProblem = ''
  problem = ''
  readonly brought: BroughtWeights
  readonly #switcher: ExpertSwitcher
  readonly #changed: () => void
  readonly #id = `made-${++jobs}`
  readonly #stop = new AbortController()
  /** Ends what the next move of a slider makes pointless. */
  #stopStep = new AbortController()
  #link?: WorkerLink<Compressor>
  #allMade?: readonly Made[]
  #uncompressed?: Promise<Expert>

  constructor(switcher: ExpertSwitcher, brought: BroughtWeights, changed: () => void) {
    this.#switcher = switcher
    this.brought = brought
    this.#changed = changed
  }

  /** The file at the chosen density and alpha; undefined while that density is being compressed. */
  get made(): Made | undefined {
    const made = this.#allMade?.[this.alpha]
    return made?.density === DENSITIES[this.density] ? made : undefined
  }

  /** Ends all that is under way, and the worker. The pen stays. */
  dispose(): void {
    this.#stop.abort()
    this.#stopStep.abort()
    this.#link?.terminate()
    void this.#uncompressed?.then((expert) => expert.release()).catch(() => {})
  }

  /** Reads the headers of what was brought, and compresses it for the first time. */
  async open(): Promise<void> {
    const { signal } = this.#stop
    try {
      this.#link = connectWorker<Compressor>(
        startWorker(
          (Worker) => new Worker(new URL('./compressor_worker.ts', import.meta.url), { type: 'module' }),
        ),
        'compressor',
      )
      const folder = folderUrl(this.#switcher.model, document.baseURI)
      const { name, files } = this.brought
      const opened = await this.#link.api.open(name, files, folder, signal)
      this.density = DENSITIES.indexOf(DEFAULT_DENSITY[opened.method])
      this.opened = opened
      await this.compress()
    } catch (error) {
      this.#failed(error)
    }
    this.#changed()
  }

  /** Compresses at the chosen density. */
  async compress(): Promise<void> {
    const link = this.#link
    if (link === undefined || this.made !== undefined) return
    this.#stopStep.abort()
    this.#stopStep = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stopStep.signal])
    this.problem = ''
    this.agreement = undefined
    this.progress = 0
    this.#changed()
    try {
      const density = DENSITIES[this.density]!
      const onProgress = (done: number, total: number) => {
        if (signal.aborted) return
        this.progress = total > 0 ? done / total : 0
        this.#changed()
      }
      const made = await link.api.compress(density, ALPHAS, this.brought.name, signal, onProgress)
      signal.throwIfAborted()
      this.#allMade = made
      this.progress = undefined
      await this.take()
    } catch (error) {
      if (this.#stopStep.signal.aborted) return
      this.progress = undefined
      this.#failed(error)
    }
  }

  /** Makes a pen of the chosen file. It is taken in hand the first time; later only if the pen before it is in hand. */
  async take(): Promise<void> {
    const made = this.made
    const opened = this.opened
    if (made === undefined || opened === undefined) return
    this.#stopStep.abort()
    this.#stopStep = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stopStep.signal])
    const { state } = this.#switcher
    try {
      const { name } = this.brought
      const { rootHash } = await readHead(blobSource(made.file, name))
      signal.throwIfAborted()
      const { density, alpha, bytes } = made
      const f16 = Math.round(bytes * made.ratioToF16)
      const entry = {
        id: this.#id,
        label: name,
        description: `Your ${METHODS[opened.method]}, compressed here`,
        method: opened.method,
        replaces: opened.method === 'full' ? { f16Delta: f16 } : { f16Lora: f16 },
        file: made.file,
        rootHash,
        density,
        alpha,
        bytes,
      }
      if (this.pen === undefined) {
        this.pen = state.addPen(entry)
        await state.choose(this.pen)
      } else {
        this.pen = await state.replacePen(this.pen, entry)
      }
      if (this.pen.error !== undefined) throw new Error(this.pen.error)
      this.#changed()
      await this.#agree(this.pen, signal)
    } catch (error) {
      if (!this.#stopStep.signal.aborted) this.#failed(error)
    }
    this.#changed()
  }

  async #agree(pen: Pen, signal: AbortSignal): Promise<void> {
    const { loader, pens } = this.#switcher.state
    this.agreement = undefined
    this.agreementProblem = ''
    const texts = this.#texts(pens)
    if (loader === undefined || texts.length === 0) {
      this.agreementProblem = 'not measured: no text is at hand; bring a .txt file along'
      return
    }
    try {
      this.#uncompressed ??= this.#loadUncompressed()
      const uncompressed = await this.#uncompressed
      const [own] = await this.#switcher.state.resident([{ pen, weight: 1 }])
      const found = (agreement: Agreement) => {
        this.agreement = agreement
        this.#changed()
      }
      await measureAgreement(loader, { uncompressed, own: own!.expert }, texts, found, signal)
    } catch (error) {
      if (signal.aborted || isAbortError(error)) return
      this.#uncompressed = undefined
      this.agreementProblem = `not measured: ${(error as Error).message}`
    }
  }

  async #loadUncompressed(): Promise<Expert> {
    const blob = await this.#link!.api.uncompressed(this.#stop.signal)
    return this.#switcher.state.loader!.load({ source: blob, id: `${this.#id}-uncompressed` })
  }

  #texts(pens: readonly Pen[]): MeasuredText[] {
    const { text } = this.brought
    if (text !== undefined)
      return [{ name: text.name, read: (characters) => text.slice(0, 4 * characters).text() }]
    return heldOutTexts(pens).map(({ name, url }) => ({
      name,
      read: async (characters, signal) => (await fetchText(url, signal)).slice(0, characters),
    }))
  }

  #failed(error: unknown): void {
    if (this.#stop.signal.aborted) return
    this.problem = (error as Error).message
    if (this.pen?.error !== undefined) {
      // The problem is shown in the workbench: there is no pen for a file that cannot be used.
      this.#switcher.state.removePen(this.pen)
      this.pen = undefined
    }
    this.#changed()
  }
}
