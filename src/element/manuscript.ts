import { css, html, LitElement, nothing, type PropertyValues } from 'lit'
import { COPIED_MS, copyText } from './copy_text.ts'
import { FollowedEnd } from './followed_end.ts'
import { partsOf, type Run, runsOf, textOf } from './runs.ts'
import { base } from './theme.ts'
import type { WrittenToken } from './token_writer.ts'
import { formatMs } from './units.ts'

/**
 * The generated text, each token in the ink of the pen that wrote it, with a nib mark in the margin where the
 * pen changed. Hovering over a token, or moving to it with the arrow keys, shows who wrote it and how long it took.
 *
 * @fires continue - the visitor wants more of the text
 * @fires undo - the visitor wants the text that was there before
 */
export class Manuscript extends LitElement {
  static override properties = {
    prompt: {},
    tokens: { hasChanged: () => true },
    pace: {},
    writing: { type: Boolean },
    undoable: { type: Boolean },
    _copied: { state: true },
    _pointed: { state: true },
  }

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        flex-direction: column;
        min-height: 0;
      }
      .sheet {
        position: relative;
        flex: 1;
        min-height: 0;
        overflow-y: auto;
        overscroll-behavior: contain;
        padding: 4px 16px 24px var(--trit-margin, 120px);
        scrollbar-gutter: stable;
        scrollbar-width: thin;
        background: linear-gradient(var(--trit-hairline), var(--trit-hairline)) no-repeat
          calc(var(--trit-margin, 120px) - 16px) 0 / 1px 100% local;
      }
      .text {
        max-width: 65ch;
        margin: 0;
        font-family: var(--trit-serif);
        font-size: 19px;
        line-height: 31px;
        white-space: pre-wrap;
        overflow-wrap: break-word;
      }
      .run {
        color: var(--ink);
      }
      .blend {
        text-decoration: underline;
        text-decoration-color: var(--ink-under);
        text-decoration-thickness: 2px;
        text-underline-offset: 4px;
      }
      .pointed {
        background: color-mix(in srgb, var(--ink) 16%, transparent);
        border-radius: 3px;
      }
      /* Out of the flow: in the margin, at the height of its line of text. */
      .mark {
        position: absolute;
        left: 0;
        width: calc(var(--trit-margin, 120px) - 26px);
        font: 600 12px / 16px var(--trit-sans);
        color: var(--ink);
        text-align: right;
        overflow-wrap: anywhere;
        white-space: normal;
        user-select: none;
      }
      /* A blend has a line for each of its pens. */
      .mark span {
        display: block;
        line-height: 16px;
      }
      .mark span:first-child {
        margin-top: 8px;
      }
      .mark i {
        display: none;
      }
      .nib {
        width: 9px;
        height: 16px;
        margin: 0 2px 0 0;
        vertical-align: -2px;
        fill: var(--ink);
      }
      /* Where the run begins with a space, the nib stands before the space, close to the word before. */
      .nib.after-word {
        margin: 0 0 0 3px;
      }
      .caret {
        display: inline-block;
        width: 2px;
        height: 20px;
        margin-left: 1px;
        vertical-align: -3px;
        background: var(--ink);
        animation: blink 1s steps(2) infinite;
      }
      @keyframes blink {
        50% {
          opacity: 0;
        }
      }
      .empty {
        color: var(--trit-muted);
      }
      .detail {
        display: flex;
        flex-wrap: wrap;
        gap: 4px 6px;
        align-items: center;
        min-height: 36px;
        padding: 4px 16px 4px var(--trit-margin, 120px);
        font-size: 12px;
        line-height: 16px;
        color: var(--trit-muted);
      }
      .detail > span {
        flex: 1 1 200px;
        overflow-wrap: anywhere;
      }
      .detail button {
        flex: none;
        padding: 2px 10px;
        color: var(--trit-text);
      }
      .swatch {
        display: inline-block;
        width: 8px;
        height: 8px;
        margin-right: 4px;
        border-radius: 50%;
        background: var(--ink);
      }
      @container switcher (max-width: 720px) {
        .mark {
          position: static;
          display: inline-block;
          /* Undoes the shift in the margin from before the page became narrow. */
          translate: none !important;
          width: auto;
          max-width: 100%;
          padding: 0 6px;
          margin-left: 4px;
          line-height: 18px;
          font-size: 11px;
          border: 1px solid color-mix(in srgb, var(--ink) 40%, transparent);
          border-radius: 9px;
          vertical-align: 2px;
        }
        .mark span {
          display: inline;
          line-height: 18px;
        }
        .mark i {
          display: inline;
          font-style: normal;
        }
        .sheet {
          padding-right: 4px;
          background: none;
        }
        /* There is nothing to point with. */
        .hint {
          display: none;
        }
        .detail button {
          min-width: 44px;
          min-height: 44px;
          padding: 2px 14px;
          font-size: 13px;
        }
      }
    `,
  ]

  declare prompt: string
  declare tokens: readonly WrittenToken[]
  /** How long a token takes, where that is long. */
  declare pace: string
  declare writing: boolean
  /** There is an earlier text to go back to. */
  declare undoable: boolean
  declare _copied: string | undefined
  declare _pointed: number | undefined

  constructor() {
    super()
    this.prompt = this.pace = ''
    this.tokens = []
    this.writing = this.undoable = false
  }

  override render() {
    const runs = runsOf(this.tokens)
    const ink = this.tokens.at(-1)?.pens[0]?.pen.ink ?? 0
    return html`<div
        class="sheet"
        tabindex="0"
        role="group"
        aria-label="Manuscript; use the arrow keys to hear who wrote each word"
        @keydown=${this.#onKey}
        @pointerover=${this.#onPointer}
        @pointerleave=${() => this.#point(undefined)}
        @blur=${() => this.#point(undefined)}
      >
        <p class="text">${
          this.prompt === ''
            ? html`<span class="empty"><slot name="empty">What the model writes appears here.</slot></span>`
            : html`<span part="prompt">${this.prompt}</span>`
        }${runs.map((run) => this.#run(run))}${
          this.writing ? html`<span class="caret" data-ink=${ink}></span>` : nothing
        }</p>
      </div>
      <div class="detail figure"><span>${this.#detail()}</span>${this.#actions()}</div>`
  }

  #actions() {
    if (this.writing) return nothing
    const written = this.tokens.length > 0
    return html`${
      written
        ? html`<button @click=${() => this.#fire('continue')}>Continue</button
            ><button @click=${this.#copy}>${this._copied ?? 'Copy'}</button>`
        : nothing
    }${this.undoable ? html`<button @click=${() => this.#fire('undo')}>Undo</button>` : nothing}`
  }

  #fire(type: 'continue' | 'undo'): void {
    this.dispatchEvent(new CustomEvent(type))
  }

  #copy = async (): Promise<void> => {
    const said = await copyText(this.prompt + textOf(this.tokens))
    this._copied = said
    setTimeout(() => {
      this._copied = undefined
    }, COPIED_MS)
  }

  /** Keys that are pressed from now on are for the pens, not for the prompt. */
  focusSheet(): void {
    this.renderRoot.querySelector<HTMLElement>('.sheet')?.focus({ preventScroll: true })
  }

  #run({ start, pens, tokens }: Run) {
    const [first, second] = pens
    return html`<span
      class="run ${second ? 'blend' : ''}"
      data-ink=${first?.pen.ink ?? 0}
      .style=${second ? `--ink-under: var(--ink-${second.pen.ink})` : ''}
      ><span class="mark">${partsOf(pens).map(
        (name, index) => html`${index === 0 ? nothing : html`<i> + </i>`}<span>${name}</span>`,
      )}</span
      ><svg
        class="nib ${/^\s/.test(tokens[0]!.text) ? 'after-word' : ''}"
        viewBox="0 0 9 16"
        aria-hidden="true"
        ><path d="M4.5 16 8.6 6.8 6.6 0H2.4L.4 6.8z" /></svg
      >${tokens.map(
        (token, index) =>
          html`<span data-token=${start + index} class=${start + index === this._pointed ? 'pointed' : ''}
            >${token.text}</span
          >`,
      )}</span
    >`
  }

  #detail() {
    const token = this._pointed === undefined ? undefined : this.tokens[this._pointed]
    if (token === undefined) {
      if (this.writing && this.pace !== '') return this.pace
      const [first, ...rest] = this.tokens
      if (first === undefined) return nothing
      const ms = rest.length === 0 ? first.ms : rest.reduce((sum, { ms }) => sum + ms, 0) / rest.length
      const figures =
        rest.length === 0 ? `1 token, ${formatMs(ms)}` : `${rest.length + 1} tokens, ${formatMs(ms)} each`
      return html`${figures}<span class="hint">; point at a word to see who wrote it</span>`
    }
    return html`<span class="swatch" data-ink=${token.pens[0]?.pen.ink ?? 0}></span>“${token.text.trim()}”
      ${token.pens.map(({ pen, weight }) => (pen.ink === 0 ? pen.label : `${pen.label} × ${weight}`)).join(' + ')},
      ${formatMs(token.ms)}`
  }

  protected override willUpdate(): void {
    if (this._pointed !== undefined && this._pointed >= this.tokens.length) this._pointed = undefined
  }

  readonly #end = new FollowedEnd(this, '.sheet', 96)

  protected override updated(changed: PropertyValues<this>): void {
    this.#spreadMarks()
    // The last update of a text ends with room for what can be done with it.
    if (changed.has('writing') || (this.writing && changed.has('tokens'))) this.#end.keep()
    else this.#end.look()
  }

  /** Moves a name down where it would overlap the name before it: two changes may be in one line. */
  #spreadMarks(): void {
    let free = 0
    for (const mark of this.renderRoot.querySelectorAll<HTMLElement>('.mark')) {
      mark.style.translate = ''
      // On narrow pages the names stand in the text.
      if (getComputedStyle(mark).position !== 'absolute') continue
      const top = mark.offsetTop
      const moved = Math.max(0, free - top)
      if (moved > 0) mark.style.translate = `0 ${moved}px`
      // Less the air above the first name.
      free = top + moved + mark.offsetHeight - 8
    }
  }

  #onPointer = (event: Event): void => {
    const token = (event.target as HTMLElement).dataset.token
    this.#point(token === undefined ? undefined : Number(token))
  }

  #onKey = (event: KeyboardEvent): void => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (step === undefined || this.tokens.length === 0) return
    event.preventDefault()
    const from = this._pointed ?? (step > 0 ? -1 : this.tokens.length)
    this.#point(Math.min(this.tokens.length - 1, Math.max(0, from + step)))
  }

  #point(index: number | undefined): void {
    this._pointed = index
  }
}
