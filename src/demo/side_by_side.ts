import { css, html, LitElement, nothing } from 'lit'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import type { Pen } from '../element/pens.ts'
import { base, theme } from '../element/theme.ts'
import { formatWait } from '../element/units.ts'
import { isAbortError } from '../errors.ts'

interface Column {
  pen: Pen
  text: string
  problem?: string
}

/** Tokens of each text: fewer where one takes seconds. */
const TOKENS = { hardware: 40, software: 12 }

/** Continues one prompt, or answers one question, with every pen in turn. Each call is bound to its expert, so the manuscript is not disturbed. */
export class SideBySide extends LitElement {
  static override properties = { switcher: { attribute: false }, _columns: { state: true } }

  static override styles = [
    theme,
    base,
    css`
      .columns {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr));
        gap: 16px 24px;
        margin-top: 16px;
      }
      .column {
        min-height: 48px;
        padding-top: 8px;
        border-top: 2px solid var(--ink);
      }
      /* Room for the text, so that nothing moves while it is written. */
      .started .column {
        min-height: 170px;
      }
      h3 {
        margin: 0 0 4px;
        font-size: 14px;
        color: var(--ink);
      }
      p {
        margin: 0;
        font: 17px/26px var(--trit-serif);
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
      .written {
        color: var(--ink);
      }
      .left {
        margin-left: 8px;
        color: var(--trit-muted);
        font-variant-numeric: tabular-nums;
      }
      @media (max-width: 767px) {
        button {
          min-height: 44px;
        }
      }
      .problem {
        color: var(--trit-error);
      }
    `,
  ]

  declare switcher: ExpertSwitcher
  declare _columns: Column[]
  #running?: AbortController

  constructor() {
    super()
    this._columns = []
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    this.#running?.abort()
  }

  override render() {
    const { state } = this.switcher
    const running = this.#running !== undefined
    const columns = this._columns.length > 0 ? this._columns : state.pens.map((pen) => ({ pen, text: '' }))
    return html`${
      running
        ? html`<button @click=${() => this.#running?.abort()}>Stop all</button> <span class="left">${this.#left()}</span>`
        : html`<button
            class="primary"
            ?disabled=${state.status !== 'ready' || this.#given() === ''}
            @click=${() => this.#run()}
            >Try all pens</button
          >`
    }
      <div class="columns ${this._columns.length > 0 ? 'started' : ''}" aria-busy=${running}>
        ${columns.map(
          ({ pen, text, problem }: Column) =>
            html`<section class="column" data-ink=${pen.ink} aria-label=${pen.label}>
              <h3>${pen.label}</h3>
              <p>${text === '' ? nothing : html`${this.#prompt}<span class="written">${text}</span>`}</p>
              ${problem === undefined ? nothing : html`<div class="problem" role="alert">${problem}</div>`}
            </section>`,
        )}
      </div>`
  }

  get #tokens(): number {
    return TOKENS[this.switcher.state.info?.adapter.software ? 'software' : 'hardware']
  }

  /** Tokens so far and the ms that they took, for what is left to be told. */
  #written = 0
  #ms = 0

  #count(ms: number): void {
    this.#written += 1
    this.#ms += ms
  }

  #left(): string {
    const left = this._columns.length * this.#tokens - this.#written
    const ms = (left * this.#ms) / Math.max(1, this.#written)
    return ms > 1000 ? `up to ${formatWait(ms)} left` : ''
  }

  /** What the pens are given: the prompt; of a chat where nothing is typed, the last question. */
  #given(): string {
    const { mode, prompt, state } = this.switcher
    if (prompt.trim() !== '') return prompt
    return mode === 'chat' ? (state.exchanges.at(-1)?.question ?? '') : ''
  }

  /** The prompt of the shown texts, which the answers to a question do not go on from. */
  #prompt = ''

  async #run(): Promise<void> {
    const { mode, state, temperature, topK } = this.switcher
    const given = this.#given()
    const { loader } = state
    if (loader === undefined) return
    const controller = new AbortController()
    const { signal } = controller
    this.#running = controller
    this.#prompt = mode === 'chat' ? '' : given
    const prompt = mode === 'chat' ? [{ role: 'user' as const, content: given }] : given
    this._columns = state.pens.map((pen) => ({ pen, text: '' }))
    this.#written = this.#ms = 0
    for (const column of this._columns) {
      const { pen } = column
      try {
        const experts = await state.resident(pen.ink === 0 ? [] : [{ pen, weight: 1 }])
        signal.throwIfAborted()
        const options = {
          maxNewTokens: this.#tokens,
          truncate: 'start',
          temperature,
          topK,
          experts,
          signal,
        } as const
        for await (const { text, ms } of loader.generate(prompt, options)) {
          column.text += text
          this.#count(ms)
          this.requestUpdate()
        }
      } catch (error) {
        if (signal.aborted) break
        // The next pen may still work.
        if (!isAbortError(error)) column.problem = (error as Error).message
      }
    }
    this.#running = undefined
    this.requestUpdate()
  }
}
