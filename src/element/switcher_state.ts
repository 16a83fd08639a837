import { isAbortError, isTritswapError, TritswapError } from '../errors.ts'
import type {
  EngineStats,
  Expert,
  FetchProgress,
  GeneratedToken,
  GenerateOptions,
  ModelInfo,
  SwitchReport,
} from '../loader/index.ts'
import { openChunkCache } from '../source/cache.ts'
import type { RegistryEntry } from '../source/registry.ts'
import { type CreateLoader, type Lease, leaseLoader, type SwitcherLoader } from './shared_loader.ts'
import { INKS } from './theme.ts'

export type { CreateLoader, SwitcherLoader } from './shared_loader.ts'

/** The base or an expert, and where its bytes are. The base is the pen with the id ''. */
export interface Pen extends Omit<RegistryEntry, 'url' | 'rootHash'> {
  url?: string
  /** Its bytes, where the visitor brought them. */
  file?: Blob
  rootHash?: string
  /** Index of its ink; 0 is the pencil. */
  ink: number
  place: 'network' | 'fetching' | 'vram'
  /** Bytes that have come, while `place` is 'fetching'. */
  loaded: number
  error?: string
  /** Its file is kept on this device: it can be had without a network. */
  cached?: boolean
  /** All compressions of this expert that the registry lists, itself included, if there are several. */
  variants?: readonly Pen[]
}

/** A pen and how strongly it is applied; 1 is the expert as it was made. */
export interface WeightedPen {
  pen: Pen
  weight: number
}

/** An expert of the registry and its weight, for `activate`. */
export interface WeightedId {
  id: string
  weight: number
}

/** So often in a row, without a token in between, a lost device is started again before the visitor is asked. */
const RESTARTS = 2

/** A token of the manuscript with the pens that wrote it, the heaviest first. */
export interface WrittenToken {
  text: string
  pens: readonly WeightedPen[]
  ms: number
  set: number
}

/** A switch as it was measured here, and the time of the first token after it once that is there. */
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
 * What the switcher knows and does, without any markup: the base, the pens, the manuscript. Every change is
 * announced through `changed`; what a page may want to hear goes through `emit`.
 */
export class SwitcherState {
  status: Status = 'idle'
  /** Why the status is 'failed', 'lost' or 'unsupported'. */
  problem = ''
  /** Bytes of the base so far. */
  loaded = 0
  total = 0
  info?: ModelInfo
  stats?: EngineStats
  /** How long loading the base took here, in ms. */
  baseLoadMs?: number
  pens: Pen[] = [
    {
      id: '',
      label: 'Base',
      description: 'No expert: the model as it was trained, bit for bit.',
      ink: 0,
      place: 'network',
      bytes: 0,
      loaded: 0,
    },
  ]
  registryProblem = ''
  /** The registry was read, if only to find it empty. */
  registryRead = false
  /** Whether the browser has a network. */
  online = navigator.onLine
  /** Strength of all that is chosen. */
  alpha = 1
  /** The pens that the visitor chose; the weight of each is its share times `alpha`. Empty for the base. */
  hand: readonly { pen: Pen; share: number }[] = []
  /** The pens that the engine holds. They differ from the chosen ones during a switch. */
  held: readonly WeightedPen[] = []
  lastSwitch?: MeasuredSwitch
  /** What the tokens continue. */
  prompt = ''
  tokens: WrittenToken[] = []
  writing = false
  writingProblem = ''
  /** The device was lost, and the engine is being made anew. */
  restarting = false

  #createLoader: () => CreateLoader
  #changed: () => void
  #emit: <K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]) => void
  #lease?: Lease
  #opening?: AbortController
  #writing?: AbortController
  /** Ends a stretch of the text that is bound to its experts, so that the next goes on with others. */
  #stretch?: AbortController
  /** Counts choices: what an overtaken one finds out is not the news. */
  #choice = 0
  /** What was asked for before the registry that lists it came. */
  #wanted?: readonly WeightedId[]
  #experts = new Map<Pen, Promise<Expert>>()
  #fetching = new Map<Pen, AbortController>()
  #pensOfExperts = new Map<string, Pen>()
  /** Restarts since the last token. */
  #restarts = 0
  #restart?: Promise<boolean>

  constructor(
    createLoader: () => CreateLoader,
    changed: () => void,
    emit: <K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]) => void,
  ) {
    this.#createLoader = createLoader
    this.#changed = changed
    this.#emit = emit
  }

  /** The first pen that the visitor chose; the base if none. */
  get chosen(): Pen {
    return this.hand[0]?.pen ?? this.pens[0]!
  }

  /** The heaviest pen that the engine holds; the base if none. */
  get inHand(): Pen {
    return this.held[0]?.pen ?? this.pens[0]!
  }

  /** The engine, for a page that does more with it; undefined until the base is loaded. */
  get loader(): SwitcherLoader | undefined {
    return this.#lease?.loader
  }

  /** Shows the experts of a registry as pens. Its problem stands beside the pens; the base works without. */
  setRegistry(entries: readonly RegistryEntry[]): void {
    const base = this.pens[0]!
    const ids = new Set(entries.map(({ id }) => id))
    // Another compression of an expert that is listed too is no pen of its own but a choice on its card.
    const isVariant = ({ variantOf }: RegistryEntry) => variantOf !== undefined && ids.has(variantOf)
    const experts = entries.filter((entry) => !isVariant(entry))
    this.pens = [
      base,
      ...experts.map((entry, index) => {
        const ink = (index % INKS) + 1
        const variants = [
          entry,
          ...entries.filter((other) => isVariant(other) && other.variantOf === entry.id),
        ]
        const pens = variants.map((variant): Pen => ({ ...variant, ink, place: 'network', loaded: 0 }))
        if (pens.length > 1) for (const pen of pens) pen.variants = pens
        return pens[0]!
      }),
    ]
    this.registryProblem = ''
    this.registryRead = true
    this.#changed()
    void this.#noteCached()
    if (this.#wanted !== undefined) {
      this.activate(this.#wanted).catch((error: unknown) => this.registryFailed(error))
    }
  }

  /** Puts an expert that no registry lists beside the others. */
  addPen(entry: Omit<Pen, 'ink' | 'place' | 'loaded'>): Pen {
    const pen: Pen = { ...entry, ink: ((this.pens.length - 1) % INKS) + 1, place: 'network', loaded: 0 }
    this.pens = [...this.pens, pen]
    this.#changed()
    return pen
  }

  removePen(pen: Pen): void {
    this.pens = this.pens.filter((each) => each !== pen)
    this.#forget(pen)
    this.#changed()
  }

  /** Puts another file in the place of a pen that {@link addPen} made; if that pen is in hand, so is the new one. */
  async replacePen(pen: Pen, entry: Omit<Pen, 'ink' | 'place' | 'loaded'>): Promise<Pen> {
    const next: Pen = { ...entry, ink: pen.ink, place: 'network', loaded: 0 }
    this.pens = this.pens.map((each) => (each === pen ? next : each))
    const inHand = this.hand.some((each) => each.pen === pen)
    if (inHand) {
      await this.#apply(this.hand.map((each) => (each.pen === pen ? { pen: next, share: each.share } : each)))
    }
    this.#forget(pen)
    this.#changed()
    return next
  }

  /** Gives the VRAM of a pen back that is no longer shown. */
  #forget(pen: Pen): void {
    const loading = this.#experts.get(pen)
    this.#experts.delete(pen)
    void loading?.then((expert) => expert.release()).catch(() => {})
  }

  setOnline(online: boolean): void {
    this.online = online
    this.#changed()
  }

  /** Finds out which files are kept on this device. */
  async #noteCached(): Promise<void> {
    const files = await openChunkCache()
      .list()
      .catch(() => [])
    const whole = new Set(files.filter(({ complete }) => complete).map(({ rootHash }) => rootHash))
    for (const pen of this.#allPens()) pen.cached = pen.rootHash !== undefined && whole.has(pen.rootHash)
    this.#changed()
  }

  registryFailed(error: unknown): void {
    this.registryProblem = messageOf(error)
    this.#changed()
  }

  /**
   * Loads the base. Resolves when it is ready or has failed; `status` says which.
   * @param ort - folder of onnxruntime-web's files, where they are not beside the library
   */
  async open(model: string, ort?: string): Promise<void> {
    if (this.status === 'loading' || this.status === 'ready') return
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
      base.loaded = this.loaded = sum(files.values(), (file) => file.loaded ?? 0)
      base.bytes = this.total = sum(files.values(), (file) => file.total ?? 0)
      this.#emit('progress', progress)
      this.#changed()
    }
    try {
      const lease = await leaseLoader(this.#createLoader(), model, {
        ort,
        onProgress,
        onShared: () => this.#stretch?.abort(),
        signal: controller.signal,
      })
      // Stopped in the last moment: the loader must not hold VRAM that nobody sees.
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
      // Stopped and started again: what the first attempt ends with is not the news.
      if (this.#opening !== controller) return
      base.place = 'network'
      if (isAbortError(error)) this.status = 'idle'
      else if (isTritswapError(error, 'webgpu')) this.#fail('unsupported', error.message)
      else this.#fail('failed', messageOf(error), error)
    }
    this.#changed()
  }

  /** Stops loading the base. */
  close(): void {
    this.#opening?.abort()
    this.status = 'idle'
    this.#changed()
  }

  /** After a lost device: gives up the old engine and what was resident; what was in hand will be again. */
  async reset(): Promise<void> {
    const lease = this.#lease
    this.#lease = undefined
    this.#experts.clear()
    this.#pensOfExperts.clear()
    for (const pen of this.#allPens()) pen.place = 'network'
    this.held = []
    this.#restarts = 0
    this.stats = undefined
    this.lastSwitch = undefined
    this.status = 'idle'
    this.#changed()
    lease?.retire()
    await lease?.release().catch(() => {})
  }

  /** Takes a pen in hand, also while text is being written. The last of several quick choices wins. */
  async choose(pen: Pen): Promise<void> {
    if (this.#lease === undefined) return
    await this.#apply(pen.ink === 0 ? [] : [{ pen, share: 1 }])
  }

  /** Takes experts in hand by their ids; before base and registry are there, it is done when they are. */
  async activate(choice: readonly (string | WeightedId)[]): Promise<void> {
    const wanted = choice.map((each) => (typeof each === 'string' ? { id: each, weight: 1 } : each))
    if (wanted.length > 0 && !this.registryRead && this.pens.length === 1 && this.registryProblem === '') {
      this.#wanted = wanted
      return
    }
    this.#wanted = undefined
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
    // The strength is that of all together, where they have one.
    const sum = hand.reduce((total, { share }) => total + share, 0)
    const alpha = choice.some((each) => typeof each !== 'string') && sum > 0 ? sum : undefined
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

  /** Takes another compression of an expert; if the expert is in hand, at once. */
  async chooseVariant(pen: Pen, variant: Pen): Promise<void> {
    this.#show(variant)
    const isIt = (each: Pen) => each === pen
    if (this.hand.some((each) => isIt(each.pen))) {
      await this.#apply(
        this.hand.map(({ pen: each, share }) => ({ pen: isIt(each) ? variant : each, share })),
      )
    }
    this.#changed()
  }

  async #apply(hand: SwitcherState['hand'], again = false): Promise<void> {
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
      const experts = await this.#residents(lease.loader, to)
      if (overtaken()) return
      const report = await lease.inTurn(async () => {
        if (overtaken()) return undefined
        return experts.length === 0 ? lease.loader.deactivate() : lease.loader.activate(experts)
      })
      if (report === undefined || this.#lease !== lease) return
      this.lastSwitch = { report, to, from: this.held }
      this.held = to
      // Not so before where the engine of an earlier device had it.
      for (const { pen } of to) pen.place = 'vram'
      if (lease.shared) this.#stretch?.abort()
      this.#emit('switch', this.lastSwitch)
      await this.#refreshStats()
    } catch (error) {
      // Overtaken by a later switch, or stopped on its card: not a fault of the pen.
      if (!isAbortError(error)) {
        if (!again && !overtaken() && (await this.#comeBack(lease, error))) return this.#apply(hand, true)
        const absent = to.map(({ pen }) => pen).filter(({ place }) => place !== 'vram')
        const faulty = absent.length > 0 ? absent : [to[0]?.pen ?? this.pens[0]!]
        for (const pen of faulty) pen.error = messageOf(error)
        this.#noteDeviceLoss(error)
        this.#emit('error', toError(error))
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
    this.#fetching.get(pen)?.abort()
  }

  /** Writes on from a prompt until the token limit, an end token or {@link stop}. */
  async write(prompt: string, options: GenerateOptions): Promise<void> {
    const lease = this.#lease
    if (lease === undefined || this.writing || prompt === '') return
    const controller = new AbortController()
    this.#writing = controller
    this.writing = true
    this.writingProblem = ''
    this.prompt = prompt
    this.tokens = []
    this.#changed()
    for (let more = true; more; ) {
      try {
        more = await this.#writeStretch(lease, options, controller.signal)
      } catch (error) {
        more = await this.#comeBack(lease, error)
        if (!more && !isAbortError(error)) {
          this.writingProblem = messageOf(error)
          this.#noteDeviceLoss(error)
          this.#emit('error', toError(error))
        }
      }
      if (controller.signal.aborted) more = false
    }
    this.writing = false
    this.#changed()
  }

  /**
   * Writes with one engine to oneself, following its switches; or, where others use it too, with one's own experts
   * until they change. @returns whether the text goes on
   */
  async #writeStretch(
    { loader, shared }: Lease,
    options: GenerateOptions,
    signal: AbortSignal,
  ): Promise<boolean> {
    const stretch = new AbortController()
    this.#stretch = stretch
    const text = this.tokens.map((token) => token.text).join('')
    const left = options.maxNewTokens === undefined ? undefined : options.maxNewTokens - this.tokens.length
    if (left === 0) return false
    try {
      const request = {
        ...options,
        maxNewTokens: left,
        signal: AbortSignal.any([signal, stretch.signal]),
        experts: shared ? await this.#residents(loader, this.held) : undefined,
      }
      for await (const token of loader.generate(this.prompt + text, request)) {
        this.#restarts = 0
        this.tokens.push({ text: token.text, pens: this.#pensOf(token), ms: token.ms, set: token.set })
        const last = this.lastSwitch
        if (last !== undefined && last.firstToken === undefined && token.set === last.report.set) {
          last.firstToken = token.ms
        }
        this.#emit('token', token)
        this.#changed()
      }
    } catch (error) {
      if (!stretch.signal.aborted || signal.aborted || !isAbortError(error)) throw error
    }
    return stretch.signal.aborted && !signal.aborted
  }

  stop(): void {
    this.#writing?.abort()
  }

  /** Frees the engine with its worker and its VRAM. */
  async dispose(): Promise<void> {
    this.#opening?.abort()
    this.stop()
    const lease = this.#lease
    const experts = [...this.#experts.values()]
    this.#lease = undefined
    this.#experts.clear()
    this.status = 'idle'
    if (lease?.shared) {
      // The others keep the engine; what only this one used is no longer held there.
      for (const loading of experts) void loading.then((expert) => expert.release()).catch(() => {})
    }
    await lease?.release()
  }

  /** The experts of pens as the loader takes them; the base is none. */
  async resident(pens: readonly WeightedPen[]): Promise<{ expert: Expert; weight: number }[]> {
    const lease = this.#lease
    return lease === undefined ? [] : this.#residents(lease.loader, pens)
  }

  #residents(
    loader: SwitcherLoader,
    pens: readonly WeightedPen[],
  ): Promise<{ expert: Expert; weight: number }[]> {
    return Promise.all(
      pens.map(async ({ pen, weight }) => ({ expert: await this.#resident(loader, pen), weight })),
    )
  }

  #allPens(): Pen[] {
    return this.pens.flatMap((pen) => pen.variants ?? [pen])
  }

  /** Puts one of several compressions on the card of its expert. */
  #show(variant: Pen): void {
    this.pens = this.pens.map((pen) => (variant.variants?.includes(pen) ? variant : pen))
  }

  /** The expert of a pen in VRAM; fetched once, however often it is chosen in between. */
  #resident(loader: SwitcherLoader, pen: Pen): Promise<Expert> {
    const known = this.#experts.get(pen)
    if (known !== undefined) return known
    const controller = new AbortController()
    this.#fetching.set(pen, controller)
    pen.place = 'fetching'
    pen.loaded = 0
    const onProgress = (progress: FetchProgress) => {
      pen.loaded = progress.loaded ?? pen.loaded
      this.#emit('progress', progress)
      this.#changed()
    }
    const request = {
      source: pen.file ?? pen.url ?? '',
      id: pen.id,
      label: pen.label,
      rootHash: pen.rootHash,
    }
    const loading = loader.load(request, { onProgress, signal: controller.signal }).then(
      (expert) => {
        pen.place = 'vram'
        this.#pensOfExperts.set(expert.id, pen)
        void this.#noteCached()
        return expert
      },
      (error: unknown) => {
        pen.place = 'network'
        this.#experts.delete(pen)
        throw error
      },
    )
    this.#experts.set(pen, loading)
    return loading.finally(() => this.#fetching.delete(pen))
  }

  #pensOf(token: GeneratedToken): WrittenToken['pens'] {
    const base = { pen: this.pens[0]!, weight: 1 }
    if (token.experts.length === 0) return [base]
    return token.experts
      .map(({ expert, weight }) => ({ pen: this.#pensOfExperts.get(expert) ?? base.pen, weight }))
      .sort(heaviestFirst)
  }

  async #refreshStats(): Promise<void> {
    this.stats = await this.#lease?.loader.stats()
  }

  /**
   * Whether an engine on a new device is there after a lost one: the loader makes it by itself, with the experts that
   * were active.
   */
  #comeBack(lease: Lease, error: unknown): Promise<boolean> {
    if (!isTritswapError(error, 'device-lost') || this.#lease !== lease) return Promise.resolve(false)
    this.#restart ??= this.#startAnew(lease).finally(() => {
      this.#restart = undefined
    })
    return this.#restart
  }

  async #startAnew(lease: Lease): Promise<boolean> {
    if (this.#restarts >= RESTARTS) return false
    this.#restarts += 1
    this.restarting = true
    this.#changed()
    try {
      // Any call starts it.
      await this.#refreshStats()
      const held = new Set(this.held.map(({ pen }) => pen))
      for (const pen of this.#experts.keys()) if (!held.has(pen)) pen.place = 'network'
      return this.#lease === lease
    } catch {
      // What was lost is what the visitor is told.
      return false
    } finally {
      this.restarting = false
      this.#changed()
    }
  }

  #noteDeviceLoss(error: unknown): void {
    if (isTritswapError(error, 'device-lost')) this.#fail('lost', error.message)
  }

  #fail(status: Status, problem: string, error?: unknown): void {
    this.status = status
    this.problem = problem
    if (error !== undefined) this.#emit('error', toError(error))
    this.#changed()
  }
}

/** What is in hand, in words. */
export function nameOfHand(hand: readonly WeightedPen[]): string {
  if (hand.length === 0) return 'Base'
  return hand.map(({ pen, weight }) => (weight === 1 ? pen.label : `${pen.label} × ${weight}`)).join(' + ')
}

function heaviestFirst(a: WeightedPen, b: WeightedPen): number {
  return Math.abs(b.weight) - Math.abs(a.weight)
}

/** Products of slider positions without their binary tails. */
function round(weight: number): number {
  return Math.round(weight * 1e4) / 1e4
}

function sum<T>(items: Iterable<T>, value: (item: T) => number): number {
  let total = 0
  for (const item of items) total += value(item)
  return total
}

function messageOf(error: unknown): string {
  return toError(error).message
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
