import { css, html, LitElement, nothing, type PropertyValues } from 'lit'
import type { Pen } from './pens.ts'
import type { SwitcherState } from './switcher_state.ts'
import { base } from './theme.ts'

/** A second pen and its share of the whole, from 0 to 1; no blend without a second pen. */
export interface Blend {
  second: Pen | undefined
  share: number
}

/** Above this, experts of the demo write nonsense. */
export const MAX_STRENGTH = 2

/**
 * Strength of what is in hand, and a second pen that writes with the first. Every move of a slider is a switch: the next
 * token is written with it.
 *
 * @fires strength - detail: the new strength, a number
 * @fires blend - detail: {@link Blend}
 */
export class Mix extends LitElement {
  static override properties = {
    pens: { hasChanged: () => true },
    hand: {},
    alpha: { type: Number },
    disabled: { type: Boolean },
  }

  static override styles = [
    base,
    css`
      details {
        border-top: 1px solid var(--trit-hairline);
      }
      summary {
        padding: 8px 10px;
        font-weight: 600;
        cursor: pointer;
      }
      summary span {
        font-weight: 400;
        font-size: 12px;
        color: var(--trit-muted);
      }
      fieldset {
        display: grid;
        grid-template-columns: auto minmax(0, 1fr) 56px;
        gap: 6px 10px;
        align-items: center;
        margin: 0;
        padding: 0 10px 10px;
        border: 0;
        font-size: 13px;
      }
      input {
        width: 100%;
        margin: 0;
        accent-color: var(--ink);
      }
      select {
        grid-column: 2 / -1;
        min-width: 0;
        padding: 2px 6px;
        font: inherit;
        color: inherit;
        background: var(--trit-paper);
        border: 1px solid var(--trit-hairline);
        border-radius: var(--trit-radius);
      }
      output {
        text-align: right;
      }
      @container switcher (max-width: 720px) {
        summary,
        select,
        input {
          min-height: 44px;
        }
        summary {
          padding: 12px 10px;
        }
      }
    `,
  ]

  declare pens: readonly Pen[]
  declare hand: SwitcherState['hand']
  declare alpha: number
  declare disabled: boolean

  constructor() {
    super()
    this.pens = []
    this.hand = []
    this.alpha = 1
    this.disabled = false
  }

  override render() {
    const [first, second] = this.hand
    const none = first === undefined
    const others = this.pens.filter((pen) => pen.ink !== 0 && pen !== first?.pen)
    return html`<details part="mix">
      <summary>
        How strong <span>${none ? 'choose a pen first' : 'and a second pen'}</span>
      </summary>
      <fieldset ?disabled=${this.disabled || none} data-ink=${first?.pen.ink ?? 0}>
        <label for="strength">How strong</label>
        <input
          id="strength"
          type="range"
          min="0"
          max=${MAX_STRENGTH}
          step="0.05"
          .value=${String(this.alpha)}
          @input=${(event: Event) => this.#fire('strength', positionOf(event))}
        />
        <output class="figure" for="strength">× ${this.alpha.toFixed(2)}</output>
        <label for="second">Second pen</label>
        <select
          id="second"
          @change=${(event: Event) => {
            const pen = others[(event.target as HTMLSelectElement).selectedIndex - 1]
            this.#fire('blend', { second: pen, share: second?.share ?? 0.5 })
          }}
        >
          <option .selected=${second === undefined}>none</option>
          ${others.map((pen) => html`<option .selected=${pen === second?.pen}>${pen.label}</option>`)}
        </select>
        ${
          second === undefined
            ? nothing
            : html`<label for="share">Its share</label>
                <input
                  id="share"
                  type="range"
                  min="0"
                  max="100"
                  step="5"
                  .value=${String(Math.round(100 * second.share))}
                  aria-valuetext="${Math.round(100 * second.share)} % ${second.pen.label}, the rest ${first?.pen.label}"
                  @input=${(event: Event) =>
                    this.#fire('blend', { second: second.pen, share: positionOf(event) / 100 })}
                />
                <output class="figure" for="share">${Math.round(100 * second.share)} %</output>`
        }
      </fieldset>
    </details>`
  }

  /** Opens the controls for a blend that was not made here, e.g. by a link. */
  protected override updated(changed: PropertyValues<this>): void {
    if (changed.has('hand') && this.hand.length > 1) this.renderRoot.querySelector('details')!.open = true
  }

  #fire(type: 'strength' | 'blend', detail: number | Blend): void {
    this.dispatchEvent(new CustomEvent(type, { detail }))
  }
}

function positionOf(event: Event): number {
  return Number((event.target as HTMLInputElement).value)
}
