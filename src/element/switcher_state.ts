import { isAbortError, isTritswapError, TritswapError, toError } from '../errors.ts'
import { type DownloadSize, downloadSize } from '../loader/download_size.ts'
import type {
  AssetOptions,
  EngineStats,
  Expert,
  FetchProgress,
  GeneratedToken,
  GenerateOptions,
  ModelInfo,
  SwitchReport,
} from '../loader/index.ts'
import { INSECURE } from '../secure_context.ts'
import type { FetchedRegistry, RegistryEntry, RegistryOptions } from '../source/registry.ts'
import { Automatic, type Found } from './automatic.ts'
import { type AskOptions, ChatSession, type Exchange } from './chat_session.ts'
import { DeviceRestarts } from './device_restarts.ts'
import { ManuscriptText } from './manuscript_text.ts'
import {
  basePen,
  heaviestFirst,
  inkAt,
  newPen,
  noteCached,
  type Pen,
  type PenEntry,
  pensOfRegistry,
  type WeightedId,
  type WeightedPen,
} from './pens.ts'
import { ResidentPens, requestOf } from './resident_pens.ts'
import { type CreateLoader, type Lease, leaseLoader, type SwitcherLoader } from './shared_loader.ts'
import type { WriterHost, WrittenToken } from './token_writer.ts'

/** A switch as it was measured on this device, with the time of the first token after it once that is written. */
export interface MeasuredSwitch {
  report: SwitchReport
  /** What is in hand now and what was before; empty for the base. */
  to: readonly WeightedPen[]
  from: readonly WeightedPen[]
  firstToken?: number
}

export type Status = 'unsupported' | 'idle' | 'loading' | 'ready' | 'failed' | 'lost'

export interface SwitcherEvents {
  progress: FetchProgress
  ready: ModelInfo
  switch: MeasuredSwitch
  token: GeneratedToken
  error: Error
}

/**
 * What the switcher knows and does, without any markup: the base, the pens in hand, the manuscript, the chat. It calls
 * `changed` after every change, and `emit` for the events of the element.
 */
export class SwitcherState {
  status: Status = 'idle'
  /** Why the status is 'failed', 'lost' or 'unsupported'. */
  problem = ''
  /** Bytes of the base so far. */
  loaded = 0
  total = 0
  /** What loading the base fetches, once that is known. */
  download?: DownloadSize
  info?: ModelInfo
  stats?: EngineStats
  /** How long loading the base took on this device, in ms. */
  baseLoadMs?: number
  pens: Pen[] = [basePen()]
  registryProblem = ''
  /** The registry was read; it may be empty. */
  registryRead = false
  /** Whether the browser says that it has a network. */
  online = navigator.onLine
  /** Strength of all pens in hand together. */
  alpha = 1
  /** The pens that the visitor chose; the weight of each is its share times `alpha`. Empty for the base. */
  hand: readonly { pen: Pen; share: number }[] = []
  /** The pens that the engine has applied. They differ from those in hand during a switch. */
  held: readonly WeightedPen[] = []
  lastSwitch?: MeasuredSwitch
  /** The pen that was found for the last request, while that choice stands. */
  found?: Found
  /** Experts that the registry lists. */
  listed = 0
  /** Who vouches for the registry, in plain words; empty where the page requires no signature. */
  voucher = ''

  #createLoader: () => CreateLoader
  #changed: () => void
  #emit: <K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]) => void
  readonly #residents = new ResidentPens(
    (progress) => {
      this.#emit('progress', progress)
      this.#changed()
    },
    () => void this.#noteCached(),
  )
  readonly #manuscript: ManuscriptText
  readonly #chat: ChatSession
  readonly #restarts: DeviceRestarts
  readonly #automatic = new Automatic({
    obtain: (entry) => this.#obtain(entry),
    prefetch: async (entry) => this.#lease?.loader.prefetch(requestOf(this.#penOf(entry))),
  })
  #finding?: AbortController
  /** Entries of the registry that are shown as pens, or are variants of them. */
  #entriesRead = 0
  #lease?: Lease
  #opening?: AbortController
  /** The last {@link open}. */
  #opened: Promise<void> = Promise.resolve()
  /** What {@link measureDownload} was asked last. */
  #measured?: [model: string, assets: AssetOptions]
  #applied: Promise<void> = Promise.resolve()
  /** Counts choices, so that one that was overtaken by a later one changes nothing. */
  #choice = 0
  /** The set that the last token came from, and what its first one took, ms. */
  #newest?: { set: number; firstToken: number }
  /** Experts asked for before the registry that lists them was read. */
  #wanted?: readonly WeightedId[]

  constructor(
    createLoader: () => CreateLoader,
    changed: () => void,
    emit: <K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]) => void,
  ) {
    this.#createLoader = createLoader
    this.#changed = changed
    this.#emit = emit
    this.#restarts = new DeviceRestarts(changed)
    const host: WriterHost = {
      residents: this.#residents,
      held: () => this.held,
      pensOf: (token) => this.#residents.pensOf(token, this.pens[0]!),
      changed,
      onToken: (token) => this.#onToken(token),
      recover: (lease, error) => this.#recover(lease, error),
      onFailure: (error) => this.#announceFailure(error),
    }
    this.#manuscript = new ManuscriptText(host)
    this.#chat = new ChatSession(host)
  }

  /** The prompt that the tokens continue. */
  get prompt(): string {
    return this.#manuscript.prompt
  }

  get tokens(): readonly WrittenToken[] {
    return this.#manuscript.tokens
  }

  /** What was asked and answered in the chat. */
  get exchanges(): readonly Exchange[] {
    return this.#chat.exchanges
  }

  /** The manuscript or an answer is being written. */
  get writing(): boolean {
    return this.#manuscript.writing || this.#chat.writing
  }

  /** The pen for a request is being looked for. */
  get finding(): boolean {
    return this.#finding !== undefined
  }

  get writingProblem(): string {
    return this.#manuscript.problem
  }

  /** The device was lost, and the engine is being started again. */
  get restarting(): boolean {
    return this.#restarts.running
  }

  /** The first pen in hand; the base if none. */
  get chosen(): Pen {
    return this.hand[0]?.pen ?? this.pens[0]!
  }

  /** The heaviest pen that the engine has applied; the base if none. */
  get inHand(): Pen {
    return this.held[0]?.pen ?? this.pens[0]!
  }

  /** The engine, for a page that does more with it; undefined until the base is loaded. */
  get loader(): SwitcherLoader | undefined {
    return this.#lease?.loader
  }

  /** Shows the experts of a registry as pens, and finds them by what is asked. @param options - as it was read with */
  showRegistry(registry: FetchedRegistry, options: RegistryOptions = {}): void {
    this.#automatic.use(registry, options)
    this.setRegistry(registry.experts)
    this.listed = (registry.pages ?? []).reduce((count, page) => count + page.count, registry.experts.length)
    this.voucher =
      options.signedBy === undefined
        ? ''
        : `This list is signed by the key ${options.signedBy}, as this page asks.`
    this.#changed()
  }

  /** Shows more experts of a registry that has many, a page of it at a time. */
  async morePens(count: number, signal?: AbortSignal): Promise<void> {
    try {
      const registry = await this.#automatic.registry
      const entries = await registry?.entries(this.#entriesRead, this.#entriesRead + count, signal)
      this.#entriesRead += entries?.length ?? 0
      for (const entry of entries ?? []) this.#penOf(entry)
      this.registryProblem = ''
    } catch (error) {
      this.registryFailed(error)
    }
    this.#changed()
  }

  /** Names of experts that hold all of some words, also of those that are not shown. */
  async search(words: string, limit: number): Promise<{ id: string; label: string }[]> {
    return (await (await this.#automatic.registry)?.search(words, { limit })) ?? []
  }

  /** The pen of an expert that the registry lists. @throws {TritswapError} as `OpenRegistry.entry` */
  async penById(id: string): Promise<Pen> {
    const here = this.#allPens().find((pen) => pen.id === id)
    if (here !== undefined) return here
    const registry = await this.#automatic.registry
    if (registry === undefined) throw new TritswapError('input', `Cannot find ${id}: no registry was read`)
    return this.#penOf(await registry.entry(id))
  }

  /** The pen of an entry, which is added where it is not shown yet. */
  #penOf(entry: RegistryEntry): Pen {
    return this.#allPens().find((pen) => pen.id === entry.id) ?? this.addPen(entry)
  }

  async #obtain(entry: RegistryEntry): Promise<void> {
    const lease = this.#lease
    if (lease === undefined) return
    const pen = this.#penOf(entry)
    this.#changed()
    try {
      await this.#residents.experts(lease.loader, [{ pen, weight: 1 }])
    } catch (error) {
      if (!isAbortError(error) && !isTritswapError(error, 'network')) pen.error = toError(error).message
      throw error
    }
  }

  /**
   * Takes the pen in hand that a text is for; where none fits, the base. Where that can't be found out, what is in hand
   * stays, and `found` says why.
   * @returns whether to go on: not where the visitor stopped it
   */
  async takeFor(text: string): Promise<boolean> {
    if (this.#lease === undefined || this.writing || this.finding) return false
    const finding = new AbortController()
    this.#finding = finding
    this.found = undefined
    this.#changed()
    try {
      const found = await this.#automatic.find(text, finding.signal)
      if (finding.signal.aborted) return false
      if (found !== undefined) {
        const pen = await this.penById(found.id)
        this.#show(pen)
        await this.#apply(pen.ink === 0 ? [] : [{ pen, share: 1 }])
        this.found = found
      }
    } catch (error) {
      if (finding.signal.aborted) return false
      this.found = {
        id: this.inHand.id,
        why: `${toError(error).message}. ${this.inHand.label}, which is in hand, answers`,
        offline: false,
      }
      this.#emit('error', toError(error))
    } finally {
      this.#finding = undefined
      this.#changed()
    }
    return true
  }

  /** Fetches ahead what a text is for, while it is being typed. */
  foresee(text: string): void {
    if (this.status === 'ready' && text.trim() !== '') void this.#automatic.foresee(text)
  }

  /** Shows the experts of a registry as pens. */
  setRegistry(entries: readonly RegistryEntry[]): void {
    this.pens = [this.pens[0]!, ...pensOfRegistry(entries)]
    this.registryProblem = ''
    this.registryRead = true
    this.listed = this.#entriesRead = entries.length
    this.#changed()
    void this.#noteCached()
    if (this.#wanted !== undefined) {
      this.activate(this.#wanted).catch((error: unknown) => this.registryFailed(error))
    }
  }

  /** Adds an expert that no registry lists. */
  addPen(entry: PenEntry): Pen {
    const pen = newPen(entry, inkAt(this.pens.length - 1))
    this.pens = [...this.pens, pen]
    this.#changed()
    return pen
  }

  removePen(pen: Pen): void {
    this.pens = this.pens.filter((each) => each !== pen)
    this.#residents.release(pen)
    this.#changed()
  }

  /** Replaces a pen that {@link addPen} made; if it is in hand, the new one takes its place there. */
  async replacePen(pen: Pen, entry: PenEntry): Promise<Pen> {
    const next = newPen(entry, pen.ink)
    this.pens = this.pens.map((each) => (each === pen ? next : each))
    await this.#replaceInHand(pen, next)
    this.#residents.release(pen)
    this.#changed()
    return next
  }

  async #replaceInHand(pen: Pen, next: Pen): Promise<void> {
    if (!this.hand.some((each) => each.pen === pen)) return
    await this.#apply(this.hand.map((each) => (each.pen === pen ? { ...each, pen: next } : each)))
  }

  setOnline(online: boolean): void {
    this.online = online
    this.#changed()
  }

  async #noteCached(): Promise<void> {
    await noteCached(this.#allPens())
    this.#changed()
  }

  /** What the browser kept of files was deleted: pens and sizes are looked at again. */
  async forgotten(): Promise<void> {
    await this.#noteCached()
    if (this.#measured !== undefined) await this.measureDownload(...this.#measured)
  }

  /** Notes why there are no experts; the base works without. */
  registryFailed(error: unknown): void {
    this.registryProblem = toError(error).message
    this.#changed()
  }

  /** Finds out what loading a base would fetch. */
  async measureDownload(model: string, assets: AssetOptions = {}): Promise<void> {
    this.#measured = [model, assets]
    const size = await downloadSize({ model, ...assets })
    // Unless another base was asked about meanwhile.
    if (this.#measured[0] !== model) return
    this.download = size
    this.#changed()
  }

  /**
   * Loads the base. Resolves when it is ready or has failed; `status` says which.
   * @param assets - where the workers and onnxruntime-web's files are, if not beside the library
   */
  open(model: string, assets: AssetOptions = {}): Promise<void> {
    if (this.status === 'ready') return Promise.resolve()
    if (this.status !== 'loading') this.#opened = this.#open(model, assets)
    return this.#opened
  }

  async #open(model: string, assets: AssetOptions = {}): Promise<void> {
    if (globalThis.isSecureContext === false)
      return this.#fail('unsupported', `Cannot load the base: ${INSECURE}`)
    if (!('gpu' in navigator)) return this.#fail('unsupported', 'This browser has no WebGPU')
    const controller = new AbortController()
    this.#opening = controller
    this.status = 'loading'
    this.problem = ''
    this.loaded = this.total = 0
    const base = this.pens[0]!
    base.place = 'fetching'
    this.#changed()
    const start = performance.now()
    const files = new Map<string, FetchProgress>()
    const onProgress = (progress: FetchProgress) => {
      if (progress.status !== 'ready') files.set(progress.file, progress)
      base.loaded = this.loaded = sum([...files.values()].map((file) => file.loaded ?? 0))
      base.bytes = this.total = sum([...files.values()].map((file) => file.total ?? 0))
      this.#emit('progress', progress)
      this.#changed()
    }
    try {
      const lease = await leaseLoader(this.#createLoader(), model, {
        ...assets,
        onProgress,
        onShared: () => this.#rebind(),
        signal: controller.signal,
      })
      // Stopped at the last moment: the loader must not hold VRAM for nothing.
      if (controller.signal.aborted) return await lease.release()
      this.#lease = lease
      const { loader } = lease
      this.baseLoadMs = performance.now() - start
      this.info = loader.info
      base.place = 'vram'
      this.status = 'ready'
      await this.#refreshStats()
      this.#emit('ready', loader.info)
      if (this.hand.length > 0) void this.#apply(this.hand)
    } catch (error) {
      // Stopped and started again: how the first attempt ends no longer matters.
      if (this.#opening !== controller) return
      base.place = 'network'
      if (isAbortError(error)) this.status = 'idle'
      // A graphics device that lacks f16 does not call for another browser.
      else if (isTritswapError(error, 'webgpu') && error.fields.missing !== 'shader-f16')
        this.#fail('unsupported', error.message)
      else this.#fail('failed', toError(error).message, error)
    }
    this.#changed()
  }

  /** Stops loading the base. */
  close(): void {
    this.#opening?.abort()
    this.status = 'idle'
    this.#changed()
  }

  /** Gives up an engine whose device was lost, with its experts. The next {@link open} applies the pens in hand again. */
  async reset(): Promise<void> {
    const lease = this.#lease
    this.#lease = undefined
    this.#residents.clear()
    for (const pen of this.#allPens()) pen.place = 'network'
    this.held = []
    this.#restarts.reset()
    this.stats = undefined
    this.lastSwitch = undefined
    this.status = 'idle'
    this.#changed()
    lease?.retire()
    await lease?.release().catch(() => {})
  }

  /**
   * Takes a pen in hand, also while text is being written. The last of several quick choices wins; before the base is loaded,
   * it is applied as soon as it is.
   */
  async choose(pen: Pen): Promise<void> {
    this.found = undefined
    await this.#apply(pen.ink === 0 ? [] : [{ pen, share: 1 }])
  }

  /** Takes experts in hand by their ids; asked for before base and registry are loaded, it is done when they are. */
  async activate(choice: readonly (string | WeightedId)[]): Promise<void> {
    const wanted = choice.map((each) => (typeof each === 'string' ? { id: each, weight: 1 } : each))
    if (wanted.length > 0 && !this.registryRead && this.pens.length === 1 && this.registryProblem === '') {
      this.#wanted = wanted
      return
    }
    this.#wanted = undefined
    this.found = undefined
    const pens = this.#allPens()
    const hand = wanted.map(({ id, weight }) => {
      const pen = id === '' ? undefined : pens.find((candidate) => candidate.id === id)
      if (pen === undefined) {
        throw new TritswapError(
          'input',
          `Cannot activate ${id}: expected one of ${pens
            .map((each) => each.id)
            .filter(Boolean)
            .join(', ')}`,
          { fields: { id } },
        )
      }
      this.#show(pen)
      return { pen, share: weight }
    })
    // Weights that were given are the strength of all together, times the share of each.
    const total = sum(hand.map(({ share }) => share))
    const alpha = choice.some((each) => typeof each !== 'string') && total > 0 ? total : undefined
    if (alpha !== undefined) this.alpha = alpha
    await this.#apply(
      alpha === undefined ? hand : hand.map(({ pen, share }) => ({ pen, share: share / alpha })),
    )
  }

  /** Sets the strength of all that is in hand; the next token is written with it. */
  async setAlpha(alpha: number): Promise<void> {
    if (!Number.isFinite(alpha) || alpha === this.alpha) return
    this.alpha = alpha
    await this.#apply(this.hand)
  }

  /** Lets a second pen write together with the chosen one. @param share - of the second pen, from 0 to 1 */
  async blend(second: Pen | undefined, share: number): Promise<void> {
    const first = this.hand[0]?.pen
    if (first === undefined) return
    await this.#apply(
      second === undefined
        ? [{ pen: first, share: 1 }]
        : [
            { pen: first, share: 1 - share },
            { pen: second, share },
          ],
    )
  }

  /** Shows another compression of an expert on its card; if the expert is in hand, takes the other instead. */
  async chooseVariant(pen: Pen, variant: Pen): Promise<void> {
    this.#show(variant)
    await this.#replaceInHand(pen, variant)
    this.#changed()
  }

  /** Resolves when the last choice of pens has been applied, or has failed. */
  get applied(): Promise<void> {
    return this.#applied
  }

  #apply(hand: SwitcherState['hand'], again = false): Promise<void> {
    const applied = this.#applyHand(hand, again)
    this.#applied = applied
    return applied
  }

  async #applyHand(hand: SwitcherState['hand'], again: boolean): Promise<void> {
    const choice = ++this.#choice
    const lease = this.#lease
    this.hand = hand
    for (const { pen } of hand) pen.error = undefined
    this.chosen.error = undefined
    this.#changed()
    if (lease === undefined) return
    const to = hand
      .map(({ pen, share }) => ({ pen, weight: round(share * this.alpha) }))
      .filter(({ weight }) => weight !== 0)
      .sort(heaviestFirst)
    const overtaken = () => this.#choice !== choice || this.#lease !== lease
    try {
      const experts = await this.#residents.experts(lease.loader, to)
      if (overtaken()) return
      const report = await lease.inTurn(async () => {
        if (overtaken()) return undefined
        // The base is the same set again each time.
        this.#newest = undefined
        // What is shown is the time until it is done.
        const options = { timed: true }
        return experts.length === 0
          ? lease.loader.deactivate(options)
          : lease.loader.activate(experts, options)
      })
      if (report === undefined || this.#lease !== lease) return
      // Its first token may have come before the GPU's end was measured.
      const firstToken = this.#newest?.set === report.set ? this.#newest.firstToken : undefined
      this.lastSwitch = { report, to, from: this.held, firstToken }
      this.held = to
      // After a restart, experts that were loaded on the earlier device are back in VRAM only now.
      for (const { pen } of to) pen.place = 'vram'
      if (lease.shared) this.#rebind()
      this.#emit('switch', this.lastSwitch)
      await this.#refreshStats()
    } catch (error) {
      // An abort is not the pen's fault: a later choice overtook this one, or the visitor stopped the download.
      if (!isAbortError(error)) {
        if (!again && !overtaken() && (await this.#recover(lease, error))) return this.#applyHand(hand, true)
        const absent = to.map(({ pen }) => pen).filter(({ place }) => place !== 'vram')
        const faulty = absent.length > 0 ? absent : [to[0]?.pen ?? this.pens[0]!]
        for (const pen of faulty) pen.error = toError(error).message
        this.#announceFailure(toError(error))
      }
      if (this.#choice === choice) {
        this.hand = this.held.map(({ pen, weight }) => ({ pen, share: weight / (this.alpha || 1) }))
      }
    }
    this.#changed()
  }

  /** Stops fetching an expert, or the base. */
  stopFetching(pen: Pen): void {
    if (pen === this.pens[0]) this.close()
    this.#residents.stopFetching(pen)
  }

  /** Writes on from a prompt until the token limit, an end token or {@link stop}. */
  async write(prompt: string, options: GenerateOptions): Promise<void> {
    if (this.#lease !== undefined && !this.writing) await this.#manuscript.write(this.#lease, prompt, options)
  }

  /** Goes on from the end of the manuscript, with the pens in hand. */
  async continueText(options: GenerateOptions): Promise<void> {
    if (this.#lease !== undefined && !this.writing) await this.#manuscript.goOn(this.#lease, options)
  }

  /** Whether there is an earlier state of the manuscript to {@link undo} to. */
  get canUndo(): boolean {
    return !this.writing && this.#manuscript.canUndo
  }

  /** Brings back the manuscript as it was before the last text was begun or continued. */
  undo(): void {
    if (this.canUndo) this.#manuscript.undo()
    this.#changed()
  }

  /** Asks the model something in the chat; resolves when the answer has ended or was stopped. */
  async ask(question: string, options: AskOptions): Promise<void> {
    if (this.#lease !== undefined && !this.writing) await this.#chat.ask(this.#lease, question, options)
  }

  /** Goes on with the last answer, which was stopped or reached the token limit. */
  async continueAnswer(options: AskOptions): Promise<void> {
    if (this.#lease !== undefined && !this.writing) await this.#chat.goOn(this.#lease, options)
  }

  /** Answers the last question again, with the pens in hand. */
  async regenerate(options: AskOptions): Promise<void> {
    if (this.#lease !== undefined && !this.writing) await this.#chat.answerAgain(this.#lease, options)
  }

  /** Empties the chat. */
  clearChat(): void {
    this.#chat.clear()
  }

  #rebind(): void {
    this.#manuscript.rebind()
    this.#chat.rebind()
  }

  #onToken(token: GeneratedToken): void {
    this.#restarts.reset()
    if (token.set !== this.#newest?.set) this.#newest = { set: token.set, firstToken: token.ms }
    const last = this.lastSwitch
    if (last !== undefined && token.set === last.report.set) last.firstToken ??= this.#newest.firstToken
    this.#emit('token', token)
  }

  stop(): void {
    this.#finding?.abort()
    this.#manuscript.stop()
    this.#chat.stop()
  }

  /** Leaves the engine for that of another base. The text and the pens stay; the pens in hand are applied to the next base. */
  async leave(): Promise<void> {
    const left = this.dispose()
    for (const pen of this.#allPens()) pen.place = 'network'
    this.held = []
    this.loaded = this.total = 0
    this.info = this.stats = this.lastSwitch = this.baseLoadMs = undefined
    this.#changed()
    await left
  }

  /** Leaves the engine. The last switcher that uses it frees its worker and its VRAM. */
  async dispose(): Promise<void> {
    this.#opening?.abort()
    this.stop()
    this.#chat.leave()
    const lease = this.#lease
    this.#lease = undefined
    this.status = 'idle'
    this.found = undefined
    // Others keep a shared engine: only the experts of this switcher leave its VRAM.
    if (lease?.shared) this.#residents.releaseAll()
    else this.#residents.clear()
    await lease?.release()
  }

  /** The experts of pens as the loader takes them; the base is the empty list. */
  async resident(pens: readonly WeightedPen[]): Promise<{ expert: Expert; weight: number }[]> {
    const lease = this.#lease
    return lease === undefined ? [] : this.#residents.experts(lease.loader, pens)
  }

  #allPens(): Pen[] {
    return this.pens.flatMap((pen) => pen.variants ?? [pen])
  }

  /** Puts one of several compressions on the card of its expert. */
  #show(variant: Pen): void {
    this.pens = this.pens.map((pen) => (variant.variants?.includes(pen) ? variant : pen))
  }

  async #refreshStats(): Promise<void> {
    this.stats = await this.#lease?.loader.stats()
  }

  /** Whether the engine works again after a lost device. The loader restarts it with the experts that were active. */
  #recover(lease: Lease, error: unknown): Promise<boolean> {
    if (!isTritswapError(error, 'device-lost') || this.#lease !== lease) return Promise.resolve(false)
    return this.#restarts.attempt(async () => {
      // Any call to the loader starts the new engine.
      await this.#refreshStats()
      this.#residents.onlyThese(new Set(this.held.map(({ pen }) => pen)))
      return this.#lease === lease
    })
  }

  #announceFailure(error: Error): void {
    if (isTritswapError(error, 'device-lost')) this.#fail('lost', error.message)
    this.#emit('error', error)
  }

  #fail(status: Status, problem: string, error?: unknown): void {
    this.status = status
    this.problem = problem
    if (error !== undefined) this.#emit('error', toError(error))
    this.#changed()
  }
}

/** Rounds away the binary tails of products of slider positions. */
function round(weight: number): number {
  return Math.round(weight * 1e4) / 1e4
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
