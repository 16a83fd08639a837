import { html, LitElement, nothing } from 'lit'
import type { Exchange } from './chat_session.ts'
import { chatStyles } from './chat_styles.ts'
import { COPIED_MS, copyText } from './copy_text.ts'
import { FollowedEnd } from './followed_end.ts'
import { foundLine } from './found_line.ts'
import type { Pen, WeightedPen } from './pens.ts'
import { labelsOf, type Run, runsOf, textOf } from './runs.ts'
import { base } from './theme.ts'

/**
 * Questions and answers, each answer in the ink and under the name of the pens that wrote it. All of it is plain text.
 *
 * @fires continue - the visitor wants more of the last answer
 * @fires regenerate - the visitor wants another answer to the last question
 * @fires new-chat - the visitor wants to begin again
 * @fires answer-with - detail: the {@link Pen} that the last question is to be answered with
 */
export class Chat extends LitElement {
  static override properties = {
    exchanges: { hasChanged: () => true },
    pens: { hasChanged: () => true },
    writing: { type: Boolean },
    disabled: { type: Boolean },
    detail: {},
    _copied: { state: true },
  }

  static override styles = [base, chatStyles]

  declare exchanges: readonly Exchange[]
  /** Who could answer. */
  declare pens: readonly Pen[]
  declare writing: boolean
  /** Nothing can be asked now. */
  declare disabled: boolean
  /** A line about the answer that is written. */
  declare detail: string
  declare _copied: { exchange: Exchange; said: string } | undefined

  constructor() {
    super()
    this.exchanges = []
    this.pens = []
    this.writing = this.disabled = false
    this.detail = ''
  }

  override render() {
    // Sentences are spoken by the switcher: a live region here would speak every token.
    return html`<div class="sheet" role="log" aria-live="off" aria-label="Chat" aria-busy=${this.writing} tabindex="0">
        ${
          this.exchanges.length === 0
            ? html`<p class="empty"><slot name="empty">Ask something.</slot></p>`
            : this.exchanges.map((exchange, index) => this.#exchange(exchange, index))
        }
      </div>
      <div class="detail figure">
        <span role="status">${this.detail}</span>
        ${
          this.exchanges.length === 0
            ? nothing
            : html`<button ?disabled=${this.writing} @click=${() => this.#fire('new-chat')}>New chat</button>`
        }
      </div>`
  }

  #exchange(exchange: Exchange, index: number) {
    const last = index === this.exchanges.length - 1
    const written = last && this.writing
    const runs = runsOf(exchange.answer)
    const writers = writersOf(exchange, runs)
    const ink = runs.at(-1)?.pens[0]?.pen.ink ?? exchange.asked[0]?.pen.ink ?? 0
    return html`${
      exchange.fresh && index > 0
        ? html`<p class="break"><span>New chat: the model no longer sees what is above</span></p>`
        : nothing
    }
      <article class="question" aria-label="You">
        <p class="text">${exchange.question}</p>
      </article>
      <article class="answer" data-ink=${runs[0]?.pens[0]?.pen.ink ?? ink} aria-label="Answer by ${writers}">
        <h3>
          <svg class="nib" viewBox="0 0 9 16" aria-hidden="true"><path d="M4.5 16 8.6 6.8 6.6 0H2.4L.4 6.8z" /></svg
          >${writers}
        </h3>
        ${exchange.found === undefined ? nothing : foundLine(exchange.found, this.pens, this.#changing(last))}
        <p class="text">${runs.map((run, place) => this.#run(run, place))}${
          written ? html`<span class="caret" data-ink=${ink}></span>` : nothing
        }${exchange.answer.length === 0 && exchange.ended === 'stop' ? html`<i>(an empty answer)</i>` : nothing}</p>
        ${exchange.problem === '' ? nothing : html`<p class="problem" role="alert">${exchange.problem}</p>`}
        ${written ? nothing : this.#actions(exchange, last)}
      </article>`
  }

  /** Takes another pen for an answer; only the last one can be answered again. */
  #changing(last: boolean): ((pen: Pen) => void) | undefined {
    if (!last || this.writing || this.disabled) return undefined
    return (pen) => this.dispatchEvent(new CustomEvent('answer-with', { detail: pen }))
  }

  #run({ pens, tokens }: Run, place: number) {
    const [first, second] = pens
    return html`<span
      class="run ${second ? 'blend' : ''}"
      data-ink=${first?.pen.ink ?? 0}
      title=${labelsOf(pens)}
      .style=${second ? `--ink-under: var(--ink-${second.pen.ink})` : ''}
      >${place === 0 ? nothing : html`<span class="mark">${labelsOf(pens)}</span>`}${textOf(tokens)}</span
    >`
  }

  #actions(exchange: Exchange, last: boolean) {
    const { answer, ended, problem } = exchange
    const cut = ended === 'length' || ended === 'aborted'
    return html`<div class="actions" role="group" aria-label="Answer">
      ${
        cut
          ? html`<span class="why">${ended === 'length' ? 'Cut at the token limit.' : 'Stopped.'}</span>`
          : nothing
      }
      ${
        last && cut && answer.length > 0
          ? html`<button ?disabled=${this.disabled} @click=${() => this.#fire('continue')}>Continue</button>`
          : nothing
      }
      ${
        answer.length === 0
          ? nothing
          : html`<button @click=${() => this.#copy(exchange)}>${this.#copyLabel(exchange)}</button>`
      }
      ${
        last
          ? html`<button ?disabled=${this.disabled} @click=${() => this.#fire('regenerate')}>${
              problem === '' ? 'Regenerate' : 'Try again'
            }</button>`
          : nothing
      }
    </div>`
  }

  #copyLabel(exchange: Exchange): string {
    return this._copied?.exchange === exchange ? this._copied.said : 'Copy'
  }

  async #copy(exchange: Exchange): Promise<void> {
    const copied = { exchange, said: await copyText(textOf(exchange.answer)) }
    this._copied = copied
    setTimeout(() => {
      if (this._copied === copied) this._copied = undefined
    }, COPIED_MS)
  }

  /** Keys that are pressed from now on are for the pens, not for the prompt. */
  focusSheet(): void {
    this.renderRoot.querySelector<HTMLElement>('.sheet')?.focus({ preventScroll: true })
  }

  readonly #end = new FollowedEnd(this, '.sheet', 48)
  #length = 0

  protected override updated(): void {
    // A question was asked: the answer is read from here on.
    if (this.exchanges.length !== this.#length) this.#end.follow()
    this.#length = this.exchanges.length
    this.#end.keep()
  }

  #fire(type: 'continue' | 'regenerate' | 'new-chat'): void {
    this.dispatchEvent(new CustomEvent(type))
  }
}

/** Who wrote an answer, in order; before its first token, who was asked. */
function writersOf({ asked }: Exchange, runs: readonly Run[]): string {
  const hands: (readonly WeightedPen[])[] = runs.length > 0 ? runs.map(({ pens }) => pens) : [asked]
  const names = hands.map((pens) => labelsOf(pens) || 'Base')
  return names.filter((name, index) => name !== names[index - 1]).join(' → ')
}
