import { html, LitElement, nothing, type PropertyValues } from 'lit'
import { readRegistry } from '../source/registry.ts'
import { baseState } from './base_state.ts'
import { switcherStyles } from './expert_switcher_styles.ts'
import type { Blend } from './mix.ts'
import { KEYS } from './pen_choice.ts'
import type { Pen, WeightedId } from './pens.ts'
import type { CreateLoader } from './shared_loader.ts'
import { type SwitcherEvents, SwitcherState } from './switcher_state.ts'
import { base, theme } from './theme.ts'

/** The switchers on the page, in order. When none has the focus, number keys go to the first. */
const connected: ExpertSwitcher[] = []

/** The details of the events of `<expert-switcher>`, by name. */
export type ExpertSwitcherEvents = { [K in keyof SwitcherEvents]: CustomEvent<SwitcherEvents[K]> } & {
  change: CustomEvent<null>
}

/**
 * A base model, its experts as pens, and the manuscript that they write. Several with the same `model` on a page share
 * one engine; each writes with its own experts.
 *
 * @fires ready {CustomEvent<ModelInfo>} The base is in VRAM.
 * @fires progress {CustomEvent<FetchProgress>} Bytes of the base or of an expert arrived.
 * @fires switch {CustomEvent<MeasuredSwitch>} Another pen is in hand.
 * @fires token {CustomEvent<GeneratedToken>} A token was written.
 * @fires error {CustomEvent<Error>} The base, an expert or the writing failed; the element shows it as well.
 * @fires change {CustomEvent<null>} Anything that is shown changed.
 *
 * @slot empty - shown in the manuscript before anything is written
 * @slot unsupported - what to do without WebGPU, in place of the list of browsers
 *
 * @csspart grid - all of it
 * @csspart state - stands in place of the manuscript while there is no base
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
export class ExpertSwitcher extends LitElement {
  /** @internal */
  static override properties = {
    model: {},
    experts: {},
    ort: {},
    prompt: {},
    maxNewTokens: { attribute: 'max-new-tokens', type: Number },
    temperature: { type: Number },
    topK: { attribute: 'top-k', type: Number },
    autoload: { type: Boolean },
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
   * Folder of onnxruntime-web's files. Only needed where a bundler separated the library from them.
   * @attr ort
   */
  declare ort: string
  /**
   * The text to go on from.
   * @attr prompt
   */
  declare prompt: string
  /**
   * Tokens that are written at once, at most; an end token ends the text earlier.
   * @attr max-new-tokens
   */
  declare maxNewTokens: number
  /**
   * 0 takes the likeliest token each time; above 0, chance chooses among the `topK` likeliest.
   * @attr temperature
   */
  declare temperature: number
  /**
   * How many of the likeliest tokens chance chooses from.
   * @attr top-k
   */
  declare topK: number
  /**
   * Load the base at once instead of asking with a button.
   * @attr autoload
   */
  declare autoload: boolean

  /** @internal Makes the engine. */
  static createLoader: CreateLoader

  /** All that the element shows, as data. */
  readonly state: SwitcherState

  constructor() {
    super()
    this.model = ''
    this.experts = ''
    this.ort = ''
    this.prompt = ''
    this.maxNewTokens = 120
    this.temperature = 0
    this.topK = 40
    this.autoload = false
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
    return this.state.open(this.model, this.ort || undefined)
  }

  /** Writes on from the prompt, after loading the base if need be; resolves when the text has ended or was stopped. */
  async generate(): Promise<void> {
    if (this.state.status === 'idle' || this.state.status === 'loading') await this.load()
    const { maxNewTokens, temperature, topK } = this
    return this.state.write(this.prompt, { maxNewTokens, temperature, topK })
  }

  /** Ends {@link generate}; the text so far stays. */
  stop(): void {
    this.state.stop()
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('experts') && this.experts !== '') void this.#readRegistry(this.experts)
    // An element that was removed before its first update has nothing to load for.
    if (changed.has('autoload') && this.autoload && this.isConnected) void this.load()
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('prompt')) this.dispatchEvent(new CustomEvent('change'))
  }

  protected override render() {
    const { state } = this
    return html`<div class="grid" part="grid">
      ${this.#sheet()}
      <div class="pens">
        <trit-pen-choice
          exportparts="pens, pen"
          .pens=${state.pens}
          .chosen=${state.chosen}
          .held=${state.held}
          .problem=${state.registryProblem}
          ?offline=${!state.online}
          ?empty=${state.registryRead && state.pens.length === 1}
          ?disabled=${state.status !== 'ready'}
          @choose=${(event: CustomEvent<Pen>) => state.choose(event.detail)}
          @choose-variant=${({ detail }: CustomEvent<{ pen: Pen; variant: Pen }>) =>
            state.chooseVariant(detail.pen, detail.variant)}
          @read-again=${() => this.#readRegistry(this.experts)}
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
      ${this.#form()}
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
      return baseState(state, {
        load: () => void this.load(),
        stop: () => state.close(),
        startAgain: () => void this.#startAgain(),
      })
    }
    return html`<trit-manuscript
      exportparts="prompt"
      .prompt=${state.prompt}
      .tokens=${state.tokens}
      ?writing=${state.writing}
      ><slot name="empty" slot="empty">Ready. Choose a pen, give it a beginning, and let it write.</slot></trit-manuscript
    >`
  }

  #form() {
    const { state } = this
    const ready = state.status === 'ready'
    return html`<form @submit=${this.#onSubmit}>
      <textarea
        aria-label="Prompt"
        placeholder="A beginning"
        spellcheck="false"
        .value=${this.prompt}
        @input=${(event: InputEvent) => {
          this.prompt = (event.target as HTMLTextAreaElement).value
        }}
        @keydown=${this.#onPromptKey}
      ></textarea>
      ${
        state.writing
          ? html`<button type="button" class="write" @click=${() => this.stop()}>Stop</button>`
          : html`<button class="write primary" ?disabled=${!ready || this.prompt.trim() === ''}>Write</button>`
      }
      ${
        state.restarting
          ? html`<div class="notice-line" role="status">
              The graphics device went away. It is being started again, with the pens that are in hand.
            </div>`
          : nothing
      }
      ${
        state.writingProblem === ''
          ? nothing
          : html`<div class="problem-line" role="alert">${state.writingProblem}</div>`
      }
      <div class="samples" role="group" aria-label="Sample prompts">
        ${this.#samples().map(
          ({ pen, prompt }) =>
            html`<button
              type="button"
              data-ink=${pen.ink}
              title="A beginning for ${pen.label}"
              @click=${() => {
                this.prompt = prompt
              }}
              >${prompt}</button
            >`,
        )}
      </div>
    </form>`
  }

  /** Sample prompts without repeats, that of the chosen pen first. */
  #samples(): { pen: Pen; prompt: string }[] {
    const { pens, chosen } = this.state
    const samples = new Map<string, Pen>()
    for (const pen of [chosen, ...pens]) {
      if (pen.prompt !== undefined && pen.prompt !== '' && !samples.has(pen.prompt))
        samples.set(pen.prompt, pen)
    }
    return [...samples].map(([prompt, pen]) => ({ prompt, pen }))
  }

  /** For screen readers: the text up to its last whole sentence, so that not every token interrupts them. */
  #spoken(): string {
    const text = this.state.tokens.map((token) => token.text).join('')
    if (!this.state.writing) return text
    return text.slice(0, Math.max(...['.', '!', '?', '\n', ';'].map((end) => text.lastIndexOf(end))) + 1)
  }

  async #startAgain(): Promise<void> {
    await this.state.reset()
    await this.load()
  }

  async #readRegistry(url: string): Promise<void> {
    try {
      const registry = await readRegistry(new URL(url, document.baseURI))
      // Unless another address was set meanwhile.
      if (this.experts === url) this.state.setRegistry(registry.experts)
    } catch (error) {
      this.state.registryFailed(error)
    }
  }

  #announce<K extends keyof SwitcherEvents>(type: K, detail: SwitcherEvents[K]): void {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }

  #onNetwork = (): void => this.state.setOnline(navigator.onLine)

  #onSubmit = (event: Event): void => {
    event.preventDefault()
    if (this.state.status === 'ready') void this.generate()
  }

  #onPromptKey = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    if (this.state.status === 'ready') void this.generate()
  }

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
    if (pen === undefined || this.state.status !== 'ready') return
    event.preventDefault()
    void this.state.choose(pen)
  }
}
