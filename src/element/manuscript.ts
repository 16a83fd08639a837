import { css, html, LitElement, nothing, type PropertyValues } from 'lit'
import { labelsOf, type Run, runsOf } from './runs.ts'
import { base } from './theme.ts'
import type { WrittenToken } from './token_writer.ts'
import { formatMs } from './units.ts'

/**
 * The generated text, each token in the ink of the pen that wrote it, with a nib mark in the margin where the
 * pen changed. Hovering over a token, or moving to it with the arrow keys, shows who wrote it and how long it took.
 */
export class Manuscript extends LitElement {
  static override properties = {
    prompt: {},
    tokens: { hasChanged: () => true },
    pace: {},
    writing: { type: Boolean },
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
        font: 600 12px / 31px var(--trit-sans);
        color: var(--ink);
        text-align: right;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        user-select: none;
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
        height: 28px;
        padding: 4px 16px 4px var(--trit-margin, 120px);
        font-size: 12px;
        color: var(--trit-muted);
        white-space: nowrap;
        overflow: hidden;
        text-overflow: ellipsis;
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
        .sheet {
          padding-right: 4px;
          background: none;
        }
      }
    `,
  ]

  declare prompt: string
  declare tokens: readonly WrittenToken[]
  /** How long a token takes, where that is long. */
  declare pace: string
  declare writing: boolean
  declare _pointed: number | undefined

  constructor() {
    super()
    this.prompt = this.pace = ''
    this.tokens = []
    this.writing = false
  }

  override render() {
    const runs = runsOf(this.tokens)
    const ink = this.tokens.at(-1)?.pens[0]?.pen.ink ?? 0
    return html`<div
        class="sheet"
        tabindex="0"
        role="group"
        aria-label="Manuscript; arrow keys tell who wrote each word"
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
      <div class="detail figure">${this.#detail()}</div>`
  }

  #run({ start, pens, tokens }: Run) {
    const [first, second] = pens
    const names = labelsOf(pens)
    return html`<span
      class="run ${second ? 'blend' : ''}"
      data-ink=${first?.pen.ink ?? 0}
      .style=${second ? `--ink-under: var(--ink-${second.pen.ink})` : ''}
      ><span class="mark" title=${names}>${names}</span
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
      if (this.tokens.length === 0) return nothing
      const ms =
        this.tokens.slice(1).reduce((sum, { ms }) => sum + ms, 0) / Math.max(1, this.tokens.length - 1)
      return `${this.tokens.length} tokens, ${formatMs(ms)} each; point at a word to see who wrote it`
    }
    return html`<span class="swatch" data-ink=${token.pens[0]?.pen.ink ?? 0}></span>“${token.text.trim()}”
      ${token.pens.map(({ pen, weight }) => (pen.ink === 0 ? pen.label : `${pen.label} × ${weight}`)).join(' + ')},
      ${formatMs(token.ms)}`
  }

  protected override willUpdate(): void {
    if (this._pointed !== undefined && this._pointed >= this.tokens.length) this._pointed = undefined
  }

  protected override updated(changed: PropertyValues<this>): void {
    this.#spreadMarks()
    const sheet = this.renderRoot.querySelector('.sheet')
    if (sheet === null || !changed.has('tokens')) return
    // Follow the text, unless the reader has scrolled back.
    const distance = sheet.scrollHeight - sheet.scrollTop - sheet.clientHeight
    if (this.writing && distance < 96) sheet.scrollTop = sheet.scrollHeight
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
      free = top + moved + 16
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
