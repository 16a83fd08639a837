import { css, html, LitElement, nothing, type PropertyValues } from 'lit'
import { readRegistry } from '../source/registry.ts'
import type { Blend } from './mix.ts'
import { KEYS } from './pen_choice.ts'
import {
  type CreateLoader,
  type Pen,
  type SwitcherEvents,
  SwitcherState,
  type WeightedId,
} from './switcher_state.ts'
import { base, theme } from './theme.ts'
import { formatBytes } from './units.ts'
import { howToGetWebGpu } from './webgpu_help.ts'

/** Where a number key goes when several switchers are on a page and none has the focus: to the first. */
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
 * @fires progress {CustomEvent<FetchProgress>} Bytes of the base or of an expert came.
 * @fires switch {CustomEvent<MeasuredSwitch>} Another pen is in hand.
 * @fires token {CustomEvent<GeneratedToken>} A token was written.
 * @fires error {CustomEvent<Error>} The base, an expert or the writing failed; the element shows it as well.
 * @fires change {CustomEvent<null>} Anything that is shown changed.
 *
 * @slot empty - what stands in the manuscript before anything is written
 * @slot unsupported - what to do without WebGPU, in place of the list of browsers
 *
 * @csspart grid - all of it
 * @csspart state - what stands in place of the manuscript while there is no base
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
  static override styles = [
    theme,
    base,
    css`
      :host {
        container: switcher / inline-size;
      }
      .grid {
        display: grid;
        grid-template: minmax(0, 1fr) auto auto / minmax(0, 3fr) minmax(320px, 2fr);
        grid-template-areas: 'sheet pens' 'form pens' 'bar bar';
        gap: 0 24px;
        height: 100%;
      }
      trit-manuscript,
      .state {
        grid-area: sheet;
        min-height: 0;
      }
      .pens {
        grid-area: pens;
        min-height: 0;
        overflow-y: auto;
        scrollbar-width: thin;
      }
      trit-switch-bar {
        grid-area: bar;
        padding-top: 10px;
        margin-top: 12px;
        border-top: 1px solid var(--trit-hairline);
      }
      .state {
        display: flex;
        flex-direction: column;
        align-items: flex-start;
        gap: 12px;
        padding: 4px 24px 16px var(--trit-margin, 120px);
        overflow-wrap: anywhere;
        background: linear-gradient(var(--trit-hairline), var(--trit-hairline)) no-repeat
          calc(var(--trit-margin, 120px) - 16px) 0 / 1px 100%;
      }
      .state > * {
        max-width: 560px;
      }
      .state h2 {
        margin: 0;
        font: 400 22px/30px var(--trit-serif);
      }
      .state p {
        margin: 0;
        color: var(--trit-muted);
      }
      .state ul {
        margin: 0;
        padding-left: 18px;
        color: var(--trit-muted);
      }
      .state.problem h2 {
        color: var(--trit-error);
      }
      .line {
        width: 100%;
        max-width: 520px;
        height: 2px;
        background: var(--trit-hairline);
      }
      .line i {
        display: block;
        height: 100%;
        width: calc(100% * var(--share));
        background: var(--ink-0);
      }
      form {
        grid-area: form;
        display: grid;
        grid-template-columns: minmax(0, 1fr) auto;
        gap: 8px;
        margin: 0;
        padding-top: 10px;
        border-top: 1px solid var(--trit-hairline);
      }
      textarea {
        height: 58px;
        padding: 6px 10px;
        font: 17px/22px var(--trit-serif);
        color: inherit;
        background: transparent;
        border: 1px solid var(--trit-hairline);
        border-radius: var(--trit-radius);
        resize: none;
      }
      textarea:focus-visible {
        outline-offset: -1px;
      }
      .write {
        width: 92px;
        height: 36px;
      }
      .samples {
        grid-column: 1 / -1;
        display: flex;
        gap: 6px;
        height: 30px;
        overflow-x: auto;
        scrollbar-width: none;
        mask-image: linear-gradient(to left, transparent, #000 32px);
        padding: 2px;
        margin: -2px;
      }
      .samples button {
        flex: none;
        max-width: 260px;
        width: auto;
        padding: 1px 10px;
        font: italic 14px/22px var(--trit-serif);
        border-radius: 13px;
        height: 26px;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        color: var(--ink);
        border-color: color-mix(in srgb, var(--ink) 35%, transparent);
      }
      .notice-line,
      .problem-line {
        grid-column: 1 / -1;
      }
      .problem-line {
        color: var(--trit-error);
        overflow-wrap: anywhere;
      }
      @container switcher (max-width: 720px) {
        .grid {
          display: block;
          height: auto;
        }
        trit-manuscript,
        .state {
          height: 280px;
          overflow-y: auto;
          --trit-margin: 0px;
          background: none;
        }
        /* Nothing streams there: it may take the room that it needs. */
        .state {
          height: auto;
          min-height: 280px;
        }
        .pens {
          margin: 8px 0 12px;
          overflow: visible;
        }
        form {
          border: 0;
          padding: 0;
        }
      }
    `,
  ]

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
   * Folder of onnxruntime-web's files, where a bundler moved the library away from its own; else leave it out.
   * @attr ort
   */
  declare ort: string
  /**
   * The text to go on from.
   * @attr prompt
   */
  declare prompt: string
  /**
   * How much is written at once; an end token ends it earlier.
   * @attr max-new-tokens
   */
  declare maxNewTokens: number
  /**
   * 0 takes the likeliest token each time; more lets chance choose among the `topK` likeliest.
   * @attr temperature
   */
  declare temperature: number
  /**
   * How many of the likeliest tokens chance chooses among.
   * @attr top-k
   */
  declare topK: number
  /**
   * Load the base at once instead of asking with a button.
   * @attr autoload
   */
  declare autoload: boolean

  /** @internal How the engine is made. */
  static createLoader: CreateLoader

  /** What is known and shown, as data. */
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
  }

  /** @internal */
  override disconnectedCallback(): void {
    super.disconnectedCallback()
    connected.splice(connected.indexOf(this), 1)
    window.removeEventListener('keydown', this.#onKey)
    window.removeEventListener('online', this.#onNetwork)
    window.removeEventListener('offline', this.#onNetwork)
    void this.state.dispose()
  }

  /**
   * Ids of the experts in hand, or on their way there; empty for the base. Unknown ids end in the event `error`. As an
   * attribute separated by spaces.
   * @attr active
   */
  get active(): string[] {
    return this.state.hand.map(({ pen }) => pen.id)
  }

  set active(ids: readonly string[]) {
    void this.activate(ids).catch((error: Error) => this.#announce('error', error))
  }

  /**
   * Strength of what is in hand: 1 is an expert as it was made, 0 the base. The next token already has it.
   * @attr alpha
   */
  get alpha(): number {
    return this.state.alpha
  }

  set alpha(alpha: number) {
    void this.state.setAlpha(alpha)
  }

  /**
   * Takes experts in hand, also while text is being written; asked for before base and registry are there, when they
   * are.
   * @param choice - ids, or ids with weights; none for the base
   * @throws {TritswapError} `input` for an id that the registry does not list
   */
  activate(choice: string | readonly (string | WeightedId)[]): Promise<void> {
    return this.state.activate(typeof choice === 'string' ? [choice] : choice)
  }

  /** Loads the base; what comes of it is in `state` and in the events `ready` and `error`. */
  load(): Promise<void> {
    return this.state.open(this.model, this.ort || undefined)
  }

  /** Writes on from the prompt; resolves when it has stopped. */
  generate(): Promise<void> {
    const { maxNewTokens, temperature, topK } = this
    return this.state.write(this.prompt, { maxNewTokens, temperature, topK })
  }

  /** Ends {@link generate}; what was written stays. */
  stop(): void {
    this.state.stop()
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('experts') && this.experts !== '') void this.#readRegistry(this.experts)
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('prompt')) this.dispatchEvent(new CustomEvent('change'))
  }

  protected override firstUpdated(): void {
    if (this.autoload) void this.load()
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
    switch (state.status) {
      case 'ready':
        return html`<trit-manuscript
          exportparts="prompt"
          .prompt=${state.prompt}
          .tokens=${state.tokens}
          ?writing=${state.writing}
          ><slot name="empty" slot="empty">Ready. Choose a pen, give it a beginning, and let it write.</slot></trit-manuscript
        >`
      case 'loading':
        return html`<div class="state" part="state">
          <h2>The base is on its way</h2>
          ${this.#line()}
          <p class="figure">${this.#loading()}</p>
          <button @click=${() => state.close()}>Stop</button>
        </div>`
      case 'idle':
        return html`<div class="state" part="state">
          ${
            state.total > 0 && state.loaded < state.total
              ? html`<h2>The base is partly here</h2>
                  ${this.#line()}
                  <p class="figure">
                    ${formatBytes(state.loaded)} of ${formatBytes(state.total)} came; what the browser keeps of it is not
                    fetched again.
                  </p>
                  <button class="primary" @click=${() => this.load()}>Go on loading</button>`
              : html`<h2>The base is not loaded</h2>
                  <p>It is read once and then stays in this device’s memory. Nothing you type leaves the browser.</p>
                  <button class="primary" @click=${() => this.load()}>Load the base</button>`
          }
        </div>`
      case 'failed':
        return html`<div class="state problem" part="state" role="alert">
          <h2>The base could not be loaded</h2>
          <p>${state.online ? nothing : 'You are offline. '}${state.problem}</p>
          <button class="primary" @click=${() => this.load()}>Try again</button>
        </div>`
      case 'lost':
        return html`<div class="state problem" part="state" role="alert">
          <h2>The graphics device went away</h2>
          <p>${state.problem}</p>
          <button class="primary" @click=${() => this.#startAgain()}>Start again</button>
        </div>`
      case 'unsupported':
        return html`<div class="state problem" part="state" role="alert">
          <h2>WebGPU is missing</h2>
          <p>${state.problem}. The model runs on your own graphics device, through WebGPU.</p>
          <slot name="unsupported">${howToGetWebGpu()}</slot>
          <button class="primary" @click=${() => this.load()}>Try again</button>
        </div>`
    }
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

  /** Sample prompts, each once: that of the chosen pen first. */
  #samples(): { pen: Pen; prompt: string }[] {
    const { pens, chosen } = this.state
    const samples = new Map<string, Pen>()
    for (const pen of [chosen, ...pens]) {
      if (pen.prompt !== undefined && pen.prompt !== '' && !samples.has(pen.prompt))
        samples.set(pen.prompt, pen)
    }
    return [...samples].map(([prompt, pen]) => ({ prompt, pen }))
  }

  #line() {
    return html`<div
      class="line"
      role="progressbar"
      aria-label="Loading the base"
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${Math.round(100 * this.#share())}
    ><i .style=${`--share: ${this.#share()}`}></i></div>`
  }

  #share(): number {
    return this.state.total > 0 ? Math.min(1, this.state.loaded / this.state.total) : 0
  }

  #loading(): string {
    const { loaded, total } = this.state
    if (total > 0 && loaded >= total) return `${formatBytes(loaded)} are here; preparing the graphics device`
    return total > 0 ? `${formatBytes(loaded)} of ${formatBytes(total)}` : 'Asking for it'
  }

  /** For screen readers: the text up to the last finished sentence, so that they are not interrupted by every token. */
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
      // Another address was set meanwhile.
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
    void this.generate()
  }

  #onPromptKey = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    void this.generate()
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
