import { html, LitElement, type PropertyValues } from 'lit'
import type { AssetOptions, GenerateOptions } from '../loader/index.ts'
import { readRegistry } from '../source/registry.ts'
import { readNumber, readStopStrings, readText } from './attributes.ts'
import { baseState, noTemplate } from './base_state.ts'
import type { Chat } from './chat.ts'
import type { AskOptions } from './chat_session.ts'
import { switcherStyles } from './expert_switcher_styles.ts'
import type { Manuscript } from './manuscript.ts'
import type { Blend } from './mix.ts'
import { paceOf } from './pace.ts'
import { KEYS } from './pen_choice.ts'
import { nameOfHand, type Pen, type WeightedId } from './pens.ts'
import { type FormPurpose, promptForm, type Sample } from './prompt_form.ts'
import { textOf } from './runs.ts'
import type { CreateLoader } from './shared_loader.ts'
import { type SwitcherEvents, SwitcherState } from './switcher_state.ts'
import { base, theme } from './theme.ts'
import type { WrittenToken } from './token_writer.ts'

/** The switchers on the page, in order. When none has the focus, number keys go to the first. */
const connected: ExpertSwitcher[] = []

/** The events of `<expert-switcher>`, by name. */
export type ExpertSwitcherEvents = { [K in keyof SwitcherEvents]: CustomEvent<SwitcherEvents[K]> } & {
  change: CustomEvent<null>
}

/** What listens to events of `<expert-switcher>`: to its own, whose details are typed, and to those of all elements. */
export interface ExpertSwitcher {
  addEventListener<K extends keyof ExpertSwitcherEvents>(
    type: K,
    listener: (this: ExpertSwitcher, event: ExpertSwitcherEvents[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void
  removeEventListener<K extends keyof ExpertSwitcherEvents>(
    type: K,
    listener: (this: ExpertSwitcher, event: ExpertSwitcherEvents[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void
  removeEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void
}

/** What the model is used for: to go on from a text, or to answer. */
export type SwitcherMode = 'manuscript' | 'chat'

/** How many of the likeliest tokens chance chooses from where a page sets a temperature and nothing else. */
const TOP_K = 40

/** Tokens at once where a page sets no number: fewer where a token takes seconds. */
const TOKENS = { hardware: 120, software: 32 }

/**
 * A base model, its experts as pens, and the manuscript or the chat that they write. Several with the same `model` on a
 * page share one engine; each writes with its own experts.
 *
 * @fires {CustomEvent<ModelInfo>} ready - The base is in VRAM.
 * @fires {CustomEvent<FetchProgress>} progress - Bytes of the base or of an expert arrived.
 * @fires {CustomEvent<MeasuredSwitch>} switch - Another pen is in hand.
 * @fires {CustomEvent<GeneratedToken>} token - A token was written.
 * @fires {CustomEvent<Error>} error - The base, an expert or the writing failed; the element shows it as well.
 * @fires {CustomEvent<null>} change - Anything that is shown changed.
 *
 * @slot before - shown while there is no base, above what the element says then
 * @slot empty - shown in the manuscript or the chat before anything is written
 * @slot unsupported - what to do without WebGPU, in place of the list of browsers
 *
 * @csspart grid - all of it
 * @csspart state - stands in place of manuscript and chat while there is no base
 * @csspart prompt - the prompt in the manuscript
 * @csspart pens - the group of pens
 * @csspart pen - one of them
 * @csspart mix - strength and second pen
 * @csspart last-switch - the last switch and its phases
 *
 * @cssprop --trit-paper - background of controls
 * @cssprop --trit-text - text
 * @cssprop --trit-muted - text of less weight
 * @cssprop --trit-hairline - lines and borders
 * @cssprop --trit-wash - background of what is pointed at
 * @cssprop --trit-error - text of errors
 * @cssprop --trit-focus - outline of what has the focus
 * @cssprop --trit-sans - typeface of controls
 * @cssprop --trit-serif - typeface of the manuscript
 * @cssprop --trit-radius - of corners
 * @cssprop --trit-margin - width of the margin with the names of the pens
 * @cssprop --ink-0 - ink of the base; `--ink-1` to `--ink-9` are those of the experts
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only gives types to what HTMLElement implements
export class ExpertSwitcher extends LitElement {
  /** @internal */
  static override properties = {
    model: {},
    experts: {},
    assets: {},
    blobWorkers: { attribute: 'blob-workers', type: Boolean },
    mode: {},
    prompt: {},
    system: { converter: readText },
    stopStrings: { attribute: 'stop', converter: readStopStrings },
    maxNewTokens: { attribute: 'max-new-tokens', converter: readNumber },
    temperature: { converter: readNumber },
    topK: { attribute: 'top-k', converter: readNumber },
    topP: { attribute: 'top-p', converter: readNumber },
    minP: { attribute: 'min-p', converter: readNumber },
    repetitionPenalty: { attribute: 'repetition-penalty', converter: readNumber },
    seed: { converter: readNumber },
    autoload: { type: Boolean },
    auto: { type: Boolean },
    integrity: { converter: readText },
    signedBy: { attribute: 'signed-by', converter: readText },
    active: {
      noAccessor: true,
      converter: (value: string | null) => (value ?? '').split(/[\s,]+/).filter(Boolean),
    },
    alpha: { noAccessor: true, type: Number },
  }

  /** @internal */
  static override styles = [theme, base, switcherStyles]

  /**
   * Folder of the base: an address, absolute or relative to the page, or `hf:owner/name@revision`.
   * @attr model
   */
  declare model: string
  /**
   * Address of the registry, `experts.json`.
   * @attr experts
   */
  declare experts: string
  /**
   * Folder that `tritswap assets` copied the workers and onnxruntime-web's files to. Only needed where a bundler separated
   * the library from them.
   * @attr assets
   */
  declare assets: string
  /**
   * Start workers from `blob:` addresses, for pages whose content security policy allows no others.
   * @attr blob-workers
   */
  declare blobWorkers: boolean
  /**
   * `manuscript` goes on from a text, `chat` answers; a chat needs a base whose tokenizer has a chat template.
   * @attr mode
   */
  declare mode: SwitcherMode
  /**
   * The text to go on from; in a chat, the next question.
   * @attr prompt
   */
  declare prompt: string
  /**
   * System message of the chat. Unset, it is the one that comes with the expert in hand, if there is one.
   * @attr system
   */
  declare system: string | undefined
  /**
   * Texts that end what is written where one of them would come. In the attribute, one text, or several as a JSON array.
   * @attr stop
   */
  declare stopStrings: string | readonly string[] | undefined
  /**
   * Tokens that are written at once, at most; an end token ends the text earlier. Unset, 120, and 32 on a software adapter.
   * @attr max-new-tokens
   */
  declare maxNewTokens: number | undefined
  /**
   * 0 takes the likeliest token each time; above 0, chance chooses. Unset, what the expert or the base say, else 0.
   * @attr temperature
   */
  declare temperature: number | undefined
  /**
   * How many of the likeliest tokens chance chooses from; 40 where only `temperature` is set.
   * @attr top-k
   */
  declare topK: number | undefined
  /**
   * Chance chooses from the fewest tokens whose probabilities sum up to this.
   * @attr top-p
   */
  declare topP: number | undefined
  /**
   * Chance chooses from tokens that are at least so likely, as a share of the likeliest one's probability.
   * @attr min-p
   */
  declare minP: number | undefined
  /**
   * Above 1, tokens that were there before become less likely.
   * @attr repetition-penalty
   */
  declare repetitionPenalty: number | undefined
  /**
   * With the same seed, chance chooses the same tokens.
   * @attr seed
   */
  declare seed: number | undefined
  /**
   * Load the base at once instead of asking with a button.
   * @attr autoload
   */
  declare autoload: boolean

  /**
   * Each request is answered by the expert that it is for, found by what is asked; taking one by hand ends that.
   * @attr auto
   */
  declare auto: boolean
  /**
   * Hash of the registry, as in HTML's `integrity`: any other one is refused.
   * @attr integrity
   */
  declare integrity: string | undefined
  /**
   * The ed25519 public key, base64, of those who may publish the registry: one without their signature is refused.
   * @attr signed-by
   */
  declare signedBy: string | undefined

  /** @internal Makes the engine. */
  static createLoader: CreateLoader

  /** All that the element shows, as data. */
  readonly state: SwitcherState

  constructor() {
    super()
    this.model = ''
    this.experts = ''
    this.assets = ''
    this.blobWorkers = false
    this.mode = 'manuscript'
    this.prompt = ''
    this.autoload = false
    this.auto = false
    this.state = new SwitcherState(
      () => (this.constructor as typeof ExpertSwitcher).createLoader,
      () => {
        this.requestUpdate()
        this.dispatchEvent(new CustomEvent('change'))
      },
      (type, detail) => this.#announce(type, detail),
    )
  }

  /** @internal */
  override connectedCallback(): void {
    super.connectedCallback()
    connected.push(this)
    window.addEventListener('keydown', this.#onKey)
    window.addEventListener('online', this.#onNetwork)
    window.addEventListener('offline', this.#onNetwork)
    this.#onNetwork()
    // It was taken out of the document before: its first load comes with its first update.
    if (this.hasUpdated && this.autoload) void this.load()
  }

  /** @internal */
  override disconnectedCallback(): void {
    super.disconnectedCallback()
    connected.splice(connected.indexOf(this), 1)
    window.removeEventListener('keydown', this.#onKey)
    window.removeEventListener('online', this.#onNetwork)
    window.removeEventListener('offline', this.#onNetwork)
    // Moving an element takes it out and puts it in again at once: it keeps its base and its text.
    queueMicrotask(() => {
      if (!this.isConnected) void this.state.dispose()
    })
  }

  /**
   * Ids of the experts in hand, or on their way there; empty for the base. An unknown id fires `error`. In the attribute,
   * ids are separated by spaces.
   * @attr active
   */
  get active(): string[] {
    return this.state.hand.map(({ pen }) => pen.id)
  }

  set active(ids: readonly string[]) {
    void this.activate(ids).catch((error: Error) => this.#announce('error', error))
  }

  /**
   * Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token is written with it.
   * @attr alpha
   */
  get alpha(): number {
    return this.state.alpha
  }

  set alpha(alpha: number) {
    void this.state.setAlpha(alpha)
  }

  /**
   * Takes experts in hand, also while text is being written. Called before base and registry are loaded, it waits for
   * them.
   * @param choice - ids, or ids with weights; none for the base
   * @throws {TritswapError} `input` for an id that the registry does not list
   */
  activate(choice: string | readonly (string | WeightedId)[]): Promise<void> {
    return this.state.activate(typeof choice === 'string' ? [choice] : choice)
  }

  /** Loads the base. Never rejects: `state` and the events `ready` and `error` tell how it went. */
  load(): Promise<void> {
    return this.state.open(this.model, this.#assets())
  }

  /**
   * Writes on from the prompt, or asks it in a chat, after loading the base if need be; resolves when the text has ended or
   * was stopped.
   */
  async generate(): Promise<void> {
    await this.#loaded()
    if (this.mode === 'chat') return this.ask(this.prompt)
    if (this.auto && !(await this.state.takeFor(this.prompt))) return
    return this.#write()
  }

  #write(): Promise<void> {
    return this.state.write(this.prompt, this.#options())
  }

  /** Goes on from the end of the manuscript, with the pens in hand; resolves when the text has ended or was stopped. */
  continueText(): Promise<void> {
    return this.state.continueText(this.#options())
  }

  /** Brings back the manuscript as it was before the last text was begun or continued. */
  undo(): void {
    this.state.undo()
  }

  /**
   * Asks something in the chat, after loading the base if need be; resolves when the answer has ended or was stopped.
   * @param options - `fresh` begins a new chat
   */
  async ask(question: string, { fresh }: Pick<AskOptions, 'fresh'> = {}): Promise<void> {
    await this.#loaded()
    const { state } = this
    if (state.info?.chat !== true || state.writing || state.finding) return
    if (!this.auto) return this.#ask(question, { fresh })
    const taken = this.#takeFromPrompt(question)
    if (await state.takeFor(question)) {
      // What was said to another expert has nothing to do with this one.
      const last = state.exchanges.at(-1)
      const other = last !== undefined && nameOfHand(last.asked) !== nameOfHand(state.held)
      await this.#ask(question, { fresh: fresh || other, found: state.found })
    } else if (taken && this.prompt === '') this.prompt = question
  }

  async #ask(question: string, options: Pick<AskOptions, 'fresh' | 'found'>): Promise<void> {
    if (this.state.info?.chat !== true) return
    this.#takeFromPrompt(question)
    await this.state.ask(question, { ...this.#options(), ...options })
  }

  /** Empties the prompt of what is asked. @returns whether it was there */
  #takeFromPrompt(question: string): boolean {
    if (question !== this.prompt) return false
    this.prompt = ''
    return true
  }

  /** Goes on with the last answer of the chat, which was stopped or reached the token limit. */
  continueAnswer(): Promise<void> {
    return this.state.continueAnswer(this.#options())
  }

  /** Answers the last question of the chat again, with the pens in hand. */
  regenerate(): Promise<void> {
    return this.state.regenerate(this.#options())
  }

  /** Ends what is being written; the text so far stays. */
  stop(): void {
    this.state.stop()
  }

  #assets(): AssetOptions {
    return { assets: this.assets || undefined, blobWorkers: this.blobWorkers }
  }

  async #loaded(): Promise<void> {
    const { status } = this.state
    if (status !== 'idle' && status !== 'loading') return
    await this.load()
    // Else the base would write the first words for the pens that are on their way.
    await this.state.applied
  }

  /** Tokens at once, at most. */
  get #limit(): number {
    return this.maxNewTokens ?? TOKENS[this.state.info?.adapter.software ? 'software' : 'hardware']
  }

  /** What the page set; the rest is left to the expert, the base and the loader. */
  #options(): GenerateOptions {
    const { temperature, topP, minP, repetitionPenalty, seed, stopStrings, system } = this
    const maxNewTokens = this.#limit
    const topK =
      this.topK ?? (temperature !== undefined && topP === undefined && minP === undefined ? TOP_K : undefined)
    const set = { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, seed, stop: stopStrings }
    const options = this.mode === 'chat' ? { ...set, system } : set
    return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    const registered = changed.has('experts') || changed.has('integrity') || changed.has('signedBy')
    if (registered && this.experts !== '') void this.#readRegistry()
    const other =
      changed.has('model') && changed.get('model') !== undefined && changed.get('model') !== this.model
    if (changed.has('model') && this.model !== '') void this.state.measureDownload(this.model, this.#assets())
    if (other && this.state.status !== 'idle') void this.#loadOther()
    // An element that was removed before its first update has nothing to load for.
    else if ((changed.has('autoload') || other) && this.autoload && this.isConnected) void this.load()
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('prompt')) this.dispatchEvent(new CustomEvent('change'))
  }

  protected override render() {
    const { state } = this
    return html`<div class="grid ${this.mode === 'chat' ? 'chat' : ''}" part="grid">
      ${this.#sheet()} ${this.#form()}
      <div class="pens">
        <trit-pen-choice
          exportparts="pens, pen"
          .pens=${state.pens}
          .chosen=${state.chosen}
          .held=${state.held}
          .problem=${state.registryProblem}
          .listed=${state.listed}
          .voucher=${state.voucher}
          .search=${this.#search}
          ?offline=${!state.online}
          ?empty=${state.registryRead && state.pens.length === 1}
          ?disabled=${state.status !== 'ready' && state.status !== 'idle' && state.status !== 'loading'}
          @choose=${(event: CustomEvent<Pen>) => this.#takeByHand(event.detail)}
          @choose-variant=${({ detail }: CustomEvent<{ pen: Pen; variant: Pen }>) =>
            state.chooseVariant(detail.pen, detail.variant)}
          @read-again=${() => this.#readRegistry()}
          @more-pens=${({ detail }: CustomEvent<number>) => state.morePens(detail)}
          @choose-listed=${({ detail }: CustomEvent<string>) => this.#takeListed(detail)}
          @stop-fetching=${(event: CustomEvent<Pen>) => state.stopFetching(event.detail)}
        ></trit-pen-choice>
        <trit-mix
          exportparts="mix"
          .pens=${state.pens}
          .hand=${state.hand}
          .alpha=${state.alpha}
          ?disabled=${state.status !== 'ready'}
          @strength=${(event: CustomEvent<number>) => state.setAlpha(event.detail)}
          @blend=${({ detail }: CustomEvent<Blend>) => state.blend(detail.second, detail.share)}
        ></trit-mix>
      </div>
      <trit-switch-bar
        exportparts="last-switch"
        .last=${state.lastSwitch}
        .baseLoadMs=${state.baseLoadMs}
      ></trit-switch-bar>
      <div class="hidden" role="log" aria-live="polite">${this.#spoken()}</div>
    </div>`
  }

  #sheet() {
    const { state } = this
    if (state.status !== 'ready') {
      const preceded = this.querySelector(':scope > [slot=before]') !== null
      const actions = {
        load: () => void this.load(),
        stop: () => state.close(),
        startAgain: () => void this.#startAgain(),
      }
      // Before a touch, what stands above is what the page is about.
      const crowded = preceded && state.status !== 'idle'
      return html`<div class="waiting ${preceded ? 'preceded' : ''} ${crowded ? 'crowded' : ''}">
        <slot name="before"></slot>
        ${baseState(state, actions, preceded)}
      </div>`
    }
    return this.mode === 'chat' ? this.#chat() : this.#manuscript()
  }

  #manuscript() {
    const { state } = this
    return html`<trit-manuscript
      exportparts="prompt"
      .prompt=${state.prompt}
      .tokens=${state.tokens}
      .pace=${this.#pace(state.tokens)}
      ?writing=${state.writing}
      ?undoable=${state.canUndo}
      @continue=${() => this.continueText()}
      @undo=${() => this.undo()}
      ><slot name="empty" slot="empty">Ready. Choose a pen, give it a beginning, and let it write.</slot></trit-manuscript
    >`
  }

  #chat() {
    const { state } = this
    if (state.info?.chat !== true) {
      return noTemplate(() => {
        this.mode = 'manuscript'
      })
    }
    return html`<trit-chat
      .exchanges=${state.exchanges}
      .pens=${state.pens}
      @answer-with=${({ detail }: CustomEvent<Pen>) => this.#answerWith(detail)}
      .detail=${this.#pace(state.exchanges.at(-1)?.answer ?? [])}
      ?writing=${state.writing}
      @continue=${() => this.continueAnswer()}
      @regenerate=${() => this.regenerate()}
      @new-chat=${() => state.clearChat()}
      ><slot name="empty" slot="empty"
        >Ready. Ask something, or pick a sample below: its colour is that of the skill it puts on.</slot
      ></trit-chat
    >`
  }

  /** How long it takes, where that is long. */
  #pace(tokens: readonly WrittenToken[]): string {
    const { info, writing } = this.state
    return info?.adapter.software ? paceOf(tokens, this.#limit, writing) : ''
  }

  #form() {
    return promptForm(this.state, this.prompt, this.mode === 'chat' ? this.#asking() : this.#beginning(), {
      input: (text) => {
        this.prompt = text
        if (this.auto) this.state.foresee(text)
      },
      submit: () => void this.#leavingPrompt(() => this.generate()),
      stop: () => this.stop(),
      sample: (sample) => void this.#leavingPrompt(() => this.#writeSample(sample)),
      auto: (on) => {
        this.auto = on
      },
      writeWith: (pen) => void this.#writeWith(pen),
    })
  }

  /** Whether the base can be loaded, if it is not here yet. */
  get #loadable(): boolean {
    return this.state.status === 'ready' || this.state.status === 'idle'
  }

  /** Takes a pen in hand; before there is a base, this is what it is loaded for. */
  async #take(pen: Pen): Promise<void> {
    const chosen = this.state.choose(pen)
    if (this.state.status !== 'idle') return chosen
    await this.load()
    await this.state.applied
  }

  /** The visitor's own choice: from now on, requests do not choose. */
  #takeByHand(pen: Pen): Promise<void> {
    this.auto = false
    return this.#take(pen)
  }

  /** Takes an expert that was found in the list of names. */
  async #takeListed(id: string): Promise<void> {
    try {
      await this.#takeByHand(await this.state.penById(id))
    } catch (error) {
      this.state.registryFailed(error)
    }
  }

  #search = (words: string, limit: number) => this.state.search(words, limit)

  /** Answers the last question again, with another pen than the one that was found for it. */
  async #answerWith(pen: Pen): Promise<void> {
    await this.#take(pen)
    if (pen.error === undefined) await this.regenerate()
  }

  async #writeWith(pen: Pen): Promise<void> {
    await this.#take(pen)
    if (pen.error === undefined) await this.#write()
  }

  /**
   * Lets the prompt go while something is written: number keys are for the pens then. A chat gets the focus back when the
   * answer has ended, unless it is somewhere else by then.
   */
  async #leavingPrompt(write: () => Promise<void>): Promise<void> {
    const root = this.renderRoot as ShadowRoot
    const sheet = () => root.querySelector<Manuscript | Chat>('trit-manuscript, trit-chat')
    const inPrompt = root.activeElement?.localName === 'textarea'
    if (inPrompt) (root.activeElement as HTMLElement).blur()
    if (inPrompt) sheet()?.focusSheet()
    await write()
    if (inPrompt && this.mode === 'chat' && root.activeElement === sheet())
      root.querySelector('textarea')?.focus()
  }

  #beginning(): FormPurpose {
    return {
      label: 'Prompt',
      placeholder: 'The first words',
      action: 'Write',
      samplesLabel: 'Sample beginnings',
      sampleTitle: 'Picks up this pen and writes.',
      possible: this.#loadable,
      auto: { label: 'Let the beginning choose the pen', on: this.auto },
      saysFound: true,
      samples: this.#samples(({ prompt }) => [prompt ?? '']),
    }
  }

  #asking(): FormPurpose {
    return {
      label: 'Your message',
      placeholder: 'Ask something',
      action: 'Send',
      samplesLabel: 'Sample requests',
      sampleTitle: 'Puts this skill on and asks.',
      possible: this.#loadable && this.state.info?.chat !== false,
      auto: { label: 'Let each question choose its skill', on: this.auto },
      saysFound: false,
      samples: this.#samples(({ samples, prompt }) => samples ?? [prompt ?? '']),
    }
  }

  /** Samples without repeats, those of the chosen pen first. */
  #samples(of: (pen: Pen) => readonly string[]): Sample[] {
    const { pens, chosen } = this.state
    const samples = new Map<string, Pen>()
    for (const pen of [chosen, ...pens]) {
      for (const text of of(pen)) if (text !== '' && !samples.has(text)) samples.set(text, pen)
    }
    return [...samples].map(([text, pen]) => ({ text, pen }))
  }

  /**
   * Takes a pen in hand, and gives it its sample. What was said in a chat before has nothing to do with it: it begins a new
   * chat.
   */
  async #writeSample({ pen, text }: Sample): Promise<void> {
    if (this.mode !== 'chat') this.prompt = text
    if (pen !== this.state.chosen) await this.#take(pen)
    await this.#loaded()
    if (pen !== this.state.chosen || pen.error !== undefined) return
    if (this.mode === 'chat') await this.#ask(text, { fresh: true })
    else await this.#write()
  }

  /** For screen readers: the text up to its last whole sentence, so that not every token interrupts them. */
  #spoken(): string {
    const { state } = this
    const text = textOf(this.mode === 'chat' ? (state.exchanges.at(-1)?.answer ?? []) : state.tokens)
    if (!state.writing) return text
    return text.slice(0, Math.max(...['.', '!', '?', '\n', ';'].map((end) => text.lastIndexOf(end))) + 1)
  }

  /** Another base: what belongs to the one before goes with it. */
  async #loadOther(): Promise<void> {
    await this.state.leave()
    await this.load()
  }

  async #startAgain(): Promise<void> {
    await this.state.reset()
    await this.load()
  }

  async #readRegistry(): Promise<void> {
    const { experts, integrity, signedBy } = this
    const isWanted = () =>
      this.experts === experts && this.integrity === integrity && this.signedBy === signedBy
    const options = { integrity, signedBy, keep: true }
    try {
      const registry = await readRegistry(new URL(experts, document.baseURI), options)
      // Unless another one was set meanwhile.
      if (isWanted()) this.state.showRegistry(registry, options)
    } catch (error) {
      if (isWanted()) this.state.registryFailed(error)
    }
  }

  #announce<K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  #onNetwork = (): void => this.state.setOnline(navigator.onLine)

  #onKey = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
    const path = event.composedPath()
    const [target] = path
    if (
      target instanceof Element &&
      target.matches('textarea, input:not([type=radio]), select, [contenteditable]')
    )
      return
    const inside = path.includes(this)
    if (!inside && (target !== document.body || connected[0] !== this)) return
    const index = Number(event.key) - 1
    const pen = Number.isInteger(index) && index >= 0 && index < KEYS ? this.state.pens[index] : undefined
    if (pen === undefined || !this.#loadable) return
    event.preventDefault()
    void this.#takeByHand(pen)
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'expert-switcher': ExpertSwitcher
  }
}
