import { css, html, LitElement, nothing } from 'lit'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { base, theme } from '../element/theme.ts'
import { formatWait } from '../element/units.ts'
import { isAbortError } from '../errors.ts'
import { emptyMeasurement, type Measurement, measure, measurementJson } from './measurement.ts'

const WINDOWS = [1, 2, 4, 8, 24]

/** The deepest shade of a cell, in percent of ink on paper, at which figures stay readable. */
const DEEPEST = 32

/** Bits per byte of every pen on every held-out text, as a table that fills in. */
export class Measure extends LitElement {
  static override properties = {
    switcher: { attribute: false },
    windows: { type: Number },
    _measurement: { state: true },
    _problem: { state: true },
  }

  static override styles = [
    theme,
    base,
    css`
      .controls {
        display: flex;
        flex-wrap: wrap;
        gap: 8px 12px;
        align-items: center;
      }
      select {
        padding: 4px 6px;
        font: inherit;
        color: inherit;
        background: var(--trit-paper);
        border: 1px solid var(--trit-hairline);
        border-radius: var(--trit-radius);
      }
      progress {
        flex: 1;
        min-width: 120px;
        max-width: 320px;
        height: 6px;
        accent-color: var(--trit-text);
      }
      .scroll {
        /* Contains the parts that only screen readers see: they would stick out. */
        position: relative;
        margin-top: 16px;
        overflow-x: auto;
      }
      table {
        width: 100%;
        min-width: 560px;
        border-collapse: separate;
        border-spacing: 2px;
      }
      th {
        padding: 2px 8px;
        font-weight: 600;
        text-align: left;
        color: var(--ink, inherit);
        white-space: nowrap;
      }
      thead th {
        font-weight: 400;
        text-align: right;
        color: var(--trit-muted);
      }
      td {
        width: 12%;
        height: 30px;
        padding: 0 8px;
        text-align: right;
        background: var(--trit-wash);
        border-radius: 2px;
      }
      td.shaded {
        background: color-mix(in srgb, var(--shade) var(--depth), var(--trit-paper));
      }
      td.coarse {
        font-style: italic;
        color: var(--trit-muted);
      }
      td.best {
        font-weight: 700;
      }
      p {
        margin: 8px 0 0;
        font-size: 13px;
        color: var(--trit-muted);
      }
      @media (max-width: 767px) {
        button,
        select {
          min-height: 44px;
        }
      }
      .problem {
        margin-top: 8px;
        color: var(--trit-error);
        overflow-wrap: anywhere;
      }
    `,
  ]

  declare switcher: ExpertSwitcher
  declare windows: number
  declare _measurement: Measurement | undefined
  declare _problem: string
  #running?: AbortController

  constructor() {
    super()
    this.windows = 1
    this._problem = ''
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    this.#running?.abort()
  }

  override render() {
    const { state } = this.switcher
    const shown = this._measurement ?? emptyMeasurement(state.pens, this.windows, this.#isSlow)
    const { total, leftMs } = shown
    const running = this.#running !== undefined
    return html`<div class="controls">
        ${
          running
            ? html`<button @click=${() => this.#running?.abort()}>Stop measuring</button>`
            : html`<button
                class="primary"
                ?disabled=${state.status !== 'ready' || total === 0}
                @click=${() => this.#run()}
                >Measure</button
              >`
        }
        <label
          >Windows per text
          <select
            ?disabled=${running}
            @change=${(event: Event) => {
              this.windows = WINDOWS[(event.target as HTMLSelectElement).selectedIndex]!
            }}
          >
            ${WINDOWS.map((count) => html`<option .selected=${count === this.windows}>${count}</option>`)}
          </select></label
        >
        <progress aria-label="Measured" max=${Math.max(1, total)} .value=${shown.done}></progress>
        <span class="figure">${shown.done} of ${total}</span>
        ${
          running && leftMs !== undefined && leftMs > 1000
            ? html`<span class="figure left">${shown.done < total / 2 && this.#isSlow ? 'first look: ' : ''}about ${formatWait(leftMs)} left</span>`
            : nothing
        }
        <button ?disabled=${running || shown.done === 0} @click=${() => this.#save()}>Save as JSON</button>
      </div>
      ${this._problem === '' ? nothing : html`<div class="problem" role="alert">${this._problem}</div>`}
      <div class="scroll" tabindex="0" role="region" aria-label="Bits per byte">
        <table class="figure">
          <thead>
            <tr>
              <th scope="col"><span class="hidden">Pen</span></th>
              ${shown.texts.map(({ name }) => html`<th scope="col">${name}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${shown.pens.map(
              (pen, row) =>
                html`<tr data-ink=${pen.ink}>
                  <th scope="row">${pen.label}</th>
                  ${shown.texts.map((_, column) => this.#cell(shown, row, column))}
                </tr>`,
            )}
          </tbody>
        </table>
      </div>
      <p>
        Bits per byte of held-out text: how much is left for the model to guess. Blue is fewer than the base needs, red is more,
        bold is fewest. Measured here, on windows of 256 tokens from the start of each text; grey figures are a first look at
        32 tokens.
      </p>`
  }

  /** A window takes long: every cell gets a coarse figure first. */
  get #isSlow(): boolean {
    return this.switcher.state.info?.adapter.software === true
  }

  #cell({ cells, coarse }: Measurement, row: number, column: number) {
    const value = cells[row]![column]
    if (value === undefined) return html`<td></td>`
    const base = cells[0]![column] ?? value
    const gain = (base - value) / base
    const measured = cells.map((each) => each[column]).filter((each) => each !== undefined)
    const best = measured.length === cells.length && value === Math.min(...measured)
    const depth = Math.min(DEEPEST, Math.abs(gain) * 100 * 1.5)
    return html`<td
      class="shaded ${best ? 'best' : ''} ${coarse[row]![column] ? 'coarse' : ''}"
      .style=${`--shade: var(--ink-${gain >= 0 ? 1 : 2}); --depth: ${depth}%`}
      >${value.toFixed(3)}</td
    >`
  }

  async #run(): Promise<void> {
    const { state } = this.switcher
    const { loader } = state
    if (loader === undefined) return
    const controller = new AbortController()
    this.#running = controller
    this._problem = ''
    const measurement = emptyMeasurement(state.pens, this.windows, this.#isSlow)
    this._measurement = measurement
    try {
      await measure(measurement, loader, state, () => this.requestUpdate(), controller.signal)
    } catch (error) {
      if (!isAbortError(error)) this._problem = (error as Error).message
    }
    this.#running = undefined
    this.requestUpdate()
  }

  #save(): void {
    const { info } = this.switcher.state
    if (this._measurement === undefined) return
    const about = { model: info?.name, fingerprint: info?.fingerprint, adapter: info?.adapter }
    const blob = new Blob([measurementJson(this._measurement, about)], { type: 'application/json' })
    const link = document.createElement('a')
    link.href = URL.createObjectURL(blob)
    link.download = 'tritswap-bits-per-byte.json'
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  }
}
