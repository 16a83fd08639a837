import { TERMS_TRIED } from '../compress/defaults.ts'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import type { Pen } from '../element/pens.ts'
import type { SwitcherLoader } from '../element/shared_loader.ts'
import { isAbortError } from '../errors.ts'
import { buildHead, readHead } from '../format/head.ts'
import type { TritMethod } from '../format/table.ts'
import type { Expert } from '../loader/index.ts'
import { connectWorker, startWorker, type WorkerLink } from '../rpc/index.ts'
import { blobSource } from '../source/memory.ts'
import { folderUrl } from '../source/model_folder.ts'
import { type Agreement, type MeasuredText, measureAgreement } from './agreement.ts'
import type { Compressor, Keep, Made, Opened } from './compressor.ts'
import type { Brought } from './dropped_files.ts'
import { fetchText, heldOutTexts } from './measurement.ts'
import { questionsOf } from './questions.ts'

/** Fractions of the entries to choose from. */
const DENSITIES = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5]
/** Values to choose from, densest around 1, where the fitted scale is at its best. */
export const ALPHAS = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3, 4, 6, 8]

/** What was brought, in words. */
export function nameOfMethod(method: TritMethod): string {
  const names: Partial<Record<TritMethod, string>> = {
    full: 'fine-tuning',
    lora: 'LoRA adapter',
    ia3: '(IA)³ adapter',
  }
  return names[method] ?? `${method} adapter`
}

/** Files of an adapter or a fine-tuning, to be compressed. */
export type BroughtWeights = Extract<Brought, { kind: 'weights' }>

/** A question, and the answers of the compressed file and of what was brought. */
export interface Answered {
  question: string
  own: string
  uncompressed: string
  done: boolean
}

/** Tokens of an answer that are compared. */
const ANSWER_TOKENS = { hardware: 64, software: 12 }

let jobs = 0

/**
 * The compression of what a visitor brought, in a worker: as densely and as strongly as the visitor says. The result
 * becomes a pen, and its agreement with the uncompressed expert is measured.
 */
export class CompressionJob {
  /** Name of the pen, and in the file that is saved. */
  name: string
  /** Index in {@link steps}. */
  kept = 0
  /** Index in {@link ALPHAS}. */
  alpha = ALPHAS.indexOf(1)
  /** Set once the headers are read. */
  opened?: Opened
  /** Fraction done of a compression under way. */
  progress?: number
  pen?: Pen
  agreement?: Agreement
  agreementProblem = ''
  /** Of a chat: what was asked of both, and what each answered. */
  answers: Answered[] = []
  /** A text or questions of the visitor's, to compare on. */
  given = ''
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
    this.name = brought.name
    this.#changed = changed
  }

  /** It is stored as terms of its factors: there is a number of them to choose, and no alpha. */
  get isTerms(): boolean {
    return this.opened !== undefined && 'terms' in this.opened.keep
  }

  /** What there is to choose from: terms of each matrix, or fractions of the entries. */
  get steps(): readonly number[] {
    const { opened } = this
    if (opened === undefined || !this.isTerms) return DENSITIES
    return Array.from({ length: TERMS_TRIED[opened.method] }, (_, index) => index + 1)
  }

  /** How much of it the visitor wants to keep. */
  get keep(): Keep {
    const kept = this.steps[this.kept]!
    return this.isTerms ? { terms: kept } : { density: kept }
  }

  /** The file as the visitor wants it; undefined while it is being compressed. */
  get made(): Made | undefined {
    const made = this.#allMade?.[this.isTerms ? 0 : this.alpha]
    return made !== undefined && sameKeep(made.keep, this.keep) ? made : undefined
  }

  /** The file, with the visitor's name in its head. */
  async named(): Promise<Blob | undefined> {
    return this.made && withLabel(this.made.file, this.name)
  }

  /** Gives the pen another name. */
  async rename(name: string): Promise<void> {
    if (name.trim() === '' || name === this.name) return
    this.name = name.trim()
    await this.take()
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
      this.opened = opened
      const { keep } = opened
      this.kept = nearest(this.steps, 'terms' in keep ? keep.terms : keep.density)
      await this.compress()
    } catch (error) {
      this.#failed(error)
    }
    this.#changed()
  }

  /** Compresses as the visitor wants it. */
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
      const onProgress = (done: number, total: number) => {
        if (signal.aborted) return
        this.progress = total > 0 ? done / total : 0
        this.#changed()
      }
      const made = await link.api.compress(this.keep, ALPHAS, this.name, signal, onProgress)
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
      const { name } = this
      const file = await withLabel(made.file, name)
      const { rootHash } = await readHead(blobSource(file, name))
      signal.throwIfAborted()
      const { alpha, bytes } = made
      const f16 = Math.round(bytes * made.ratioToF16)
      const entry = {
        id: this.#id,
        label: name,
        description: `Your ${nameOfMethod(opened.method)}, compressed here.`,
        method: opened.method,
        replaces: opened.method === 'full' ? { f16Delta: f16 } : { f16Lora: f16 },
        file,
        rootHash,
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

  /** Compares on a text of the visitor's; in a chat, on the answers to its questions. */
  async compareOn(text: string): Promise<void> {
    this.given = text
    await this.take()
  }

  async #agree(pen: Pen, signal: AbortSignal): Promise<void> {
    const { loader, pens, info } = this.#switcher.state
    this.agreement = undefined
    this.agreementProblem = ''
    this.answers = []
    const chats = this.#switcher.mode === 'chat' && info?.chat === true
    const given = this.given.trim() === '' ? await this.brought.text?.text() : this.given
    const questions = chats && given !== undefined ? questionsOf(given) : []
    const texts = questions.length > 0 ? [] : this.#texts(pens)
    if (loader === undefined || texts.length + questions.length === 0) {
      this.agreementProblem = chats
        ? 'not compared yet: enter some questions below'
        : 'not compared yet: enter a text below'
      return
    }
    try {
      this.#uncompressed ??= this.#loadUncompressed()
      const uncompressed = await this.#uncompressed
      const [resident] = await this.#switcher.state.resident([{ pen, weight: 1 }])
      const own = resident!.expert
      const found = (agreement: Agreement) => {
        this.agreement = agreement
        this.#changed()
      }
      if (texts.length > 0) await measureAgreement(loader, { uncompressed, own }, texts, found, signal)
      for (const question of questions) await this.#answer(loader, question, { own, uncompressed }, signal)
    } catch (error) {
      if (signal.aborted || isAbortError(error)) return
      this.#uncompressed = undefined
      this.agreementProblem = `not measured: ${(error as Error).message}`
    }
  }

  /** Lets both answer, the likeliest token each time. */
  async #answer(
    loader: SwitcherLoader,
    question: string,
    experts: Record<'own' | 'uncompressed', Expert>,
    signal: AbortSignal,
  ): Promise<void> {
    const answered: Answered = { question, own: '', uncompressed: '', done: false }
    this.answers = [...this.answers, answered]
    const maxNewTokens = ANSWER_TOKENS[loader.info.adapter.software ? 'software' : 'hardware']
    for (const who of ['uncompressed', 'own'] as const) {
      const options = { maxNewTokens, temperature: 0, signal, experts: [{ expert: experts[who], weight: 1 }] }
      for await (const { text } of loader.generate([{ role: 'user', content: question }], options)) {
        answered[who] += text
        this.#changed()
      }
    }
    answered.done = true
    this.#changed()
  }

  async #loadUncompressed(): Promise<Expert> {
    const blob = await this.#link!.api.uncompressed(this.#stop.signal)
    return this.#switcher.state.loader!.load({ source: blob, id: `${this.#id}-uncompressed` })
  }

  #texts(pens: readonly Pen[]): MeasuredText[] {
    const { text } = this.brought
    const { given } = this
    if (given.trim() !== '')
      return [{ name: 'your text', read: async (characters) => given.slice(0, characters) }]
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

function sameKeep(a: Keep, b: Keep): boolean {
  return 'terms' in a ? 'terms' in b && a.terms === b.terms : 'density' in b && a.density === b.density
}

/** Index of the value that is nearest. */
function nearest(values: readonly number[], wanted: number): number {
  const distances = values.map((value) => Math.abs(value - wanted))
  return distances.indexOf(Math.min(...distances))
}

/** The same expert under another name: only its head differs. */
async function withLabel(file: Blob, label: string): Promise<Blob> {
  const { table, headBytes, chunkBytes, payloadBytes, chunkHashes } = await readHead(blobSource(file, label))
  if (table.label === label) return file
  const head = buildHead({ ...table, label }, Math.log2(chunkBytes), payloadBytes, chunkHashes)
  return new Blob([head, file.slice(headBytes)])
}
