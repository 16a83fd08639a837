import { html, LitElement, nothing } from 'lit'
import { toError } from '../errors.ts'
import { penChoiceStyles } from './pen_choice_styles.ts'
import type { Pen, WeightedPen } from './pens.ts'
import { base } from './theme.ts'
import { formatBytes } from './units.ts'

/** The first pens have a number key each. */
export const KEYS = 9

/** From this many experts on, their names can be searched. */
const SEARCHED = 20

/** Names that a search shows. */
const FOUND = 20

/** A name of the registry's list, whose entry may not be here. */
interface ListedName {
  id: string
  label: string
}

/** Cards that are drawn at once, and variants on one card: each change of state draws all of them again. */
const DRAWN = 100

/**
 * The pens as a group of radio cards: the base, then the experts. Each card says where the bytes are, and draws their
 * number to scale against what the expert replaces.
 *
 * @fires choose - detail: the {@link Pen} that the visitor chose
 * @fires choose-listed - detail: the id of an expert that the visitor found by its name
 * @fires more-pens - detail: how many more experts of the registry the visitor wants to see
 * @fires choose-variant - detail: the {@link Pen} of the card and the variant to take in its place
 * @fires read-again - the visitor wants the registry to be read once more
 * @fires stop-fetching - detail: the {@link Pen} whose download is to end
 */
export class PenChoice extends LitElement {
  static override properties = {
    pens: { hasChanged: () => true },
    chosen: {},
    held: {},
    disabled: { type: Boolean },
    offline: { type: Boolean },
    empty: { type: Boolean },
    problem: {},
    listed: { type: Number },
    voucher: {},
    search: { attribute: false },
    _drawn: { state: true },
    _words: { state: true },
    _names: { state: true },
  }

  static override styles = [base, penChoiceStyles]

  declare pens: readonly Pen[]
  declare chosen: Pen | undefined
  declare held: readonly WeightedPen[]
  declare disabled: boolean
  /** Without a network, only what is on this device can be used. */
  declare offline: boolean
  /** The registry lists nothing. */
  declare empty: boolean
  declare problem: string
  /** Experts that the registry lists; not all of them are among the pens. */
  declare listed: number
  /** Who vouches for the registry, if the page asks for that. */
  declare voucher: string
  /** Names that hold some words, of all that the registry lists. */
  declare search: ((words: string, limit: number) => Promise<ListedName[]>) | undefined
  declare _words: string
  /** What the last search found. */
  declare _names: readonly ListedName[]
  /** Cards that the visitor has asked to see so far. */
  declare _drawn: number

  constructor() {
    super()
    this.pens = []
    this.held = []
    this.disabled = this.offline = this.empty = false
    this.problem = this.voucher = this._words = ''
    this.listed = 0
    this._names = []
    this._drawn = DRAWN
  }

  override render() {
    return html`${
      this.offline
        ? html`<p class="notice" role="status">
            <b>Offline.</b> Pens whose files are on this device still write; the others wait for the network.
          </p>`
        : nothing
    }${this.listed >= SEARCHED ? this.#searchField() : nothing}<fieldset part="pens" ?disabled=${this.disabled}>
        <legend class="hidden">Pens</legend>
        ${this.pens.map((pen, index) => (this.#isDrawn(pen, index) ? this.#card(pen, index) : nothing))}
        ${this.#more()}
      </fieldset>
      ${
        this.empty
          ? html`<p class="notice"><b>No pens are listed here yet.</b> The base writes alone.</p>`
          : nothing
      }
      ${
        this.pens.some((pen) => wholeOf(pen) > 0)
          ? html`<p class="note">
              Bars: each file, to scale, against the weights it stands for.
            </p>`
          : nothing
      }
      ${this.voucher === '' ? nothing : html`<p class="note voucher">${this.voucher}</p>`}
      ${
        this.problem === ''
          ? nothing
          : html`<div class="problem" role="alert">
              <span>${this.problem}</span>
              <button @click=${() => this.dispatchEvent(new CustomEvent('read-again'))}>Try again</button>
            </div>`
      }`
  }

  #card(pen: Pen, index: number) {
    const states = [
      pen === this.chosen && 'chosen',
      this.#holds(pen) && 'held',
      pen.variants !== undefined && 'varied',
      pen.withdrawn !== undefined && 'withdrawn',
    ]
      .filter(Boolean)
      .join(' ')
    return html`<div class="pen ${states}" data-ink=${pen.ink} part="pen" title=${titleOf(pen)}>
      <label>
        <input
          type="radio"
          name="pen"
          .checked=${pen === this.chosen}
          ?disabled=${pen.withdrawn !== undefined}
          @change=${() => this.#fire('choose', pen)}
          aria-label=${pen.label}
          aria-describedby="about-${index} place-${index} size-${index} error-${index}"
        />
        <svg class="nib" viewBox="0 0 20 20" aria-hidden="true">
          <path d="M10 1.5 15 10.5 12.4 18.5H7.6L5 10.5z" />
          <path class="slit" d="M10 3v8" />
        </svg>
        <b class="name">${pen.label}</b>
        <span class="size figure" id="size-${index}">${sizeText(pen)}</span>
        <span class="place figure" id="place-${index}">${this.#place(pen)}</span>
        ${index < KEYS ? html`<kbd aria-hidden="true">${index + 1}</kbd>` : html`<span></span>`}
        <span class="about" id="about-${index}"
          >${pen.withdrawn === undefined ? (pen.description ?? '') : `Withdrawn: ${pen.withdrawn}`} <span class="facts figure">${factsOf(pen)}</span></span
        >
        ${this.#scale(pen)}
      </label>
      ${this.#variants(pen)}
      ${
        pen.place === 'fetching'
          ? html`<i class="fill" .style=${`--share: ${share(pen.loaded, pen.bytes)}`}></i>
              ${
                // Loading the base has a Stop of its own.
                pen.ink === 0
                  ? nothing
                  : html`<button class="stop" @click=${() => this.#fire('stop-fetching', pen)}>Stop</button>`
              }`
          : nothing
      }
      ${
        pen.error === undefined
          ? nothing
          : html`<div class="error" id="error-${index}" role="alert">
              <span>${pen.error}</span><button @click=${() => this.#fire('choose', pen)}>Try again</button>
            </div>`
      }
    </div>`
  }

  /** The first cards, and those that something happens to. */
  #isDrawn(pen: Pen, index: number): boolean {
    return index < this._drawn || pen === this.chosen || pen.place !== 'network' || pen.error !== undefined
  }

  #more() {
    const rest = Math.max(this.listed + 1, this.pens.length) - this._drawn
    // Variants are listed, too, and have no card of their own.
    if (rest <= 0 || (this.listed < SEARCHED && this.pens.length <= this._drawn)) return nothing
    const next = Math.min(rest, DRAWN)
    const show = () => {
      this._drawn += DRAWN
      if (this._drawn > this.pens.length) this.dispatchEvent(new CustomEvent('more-pens', { detail: next }))
    }
    return html`<button class="more" @click=${show}>
      Show ${next} of ${rest} more
    </button>`
  }

  #searchField() {
    return html`<search>
      <input
        type="search"
        aria-label="Search pens"
        placeholder="Search ${this.listed.toLocaleString('en')} pens"
        .value=${this._words}
        @input=${(event: InputEvent) => this.#look((event.target as HTMLInputElement).value)}
      />
      ${
        this._words.trim() === ''
          ? nothing
          : html`<div class="names" role="status">
              ${this._names.map(({ id, label }) => html`<button @click=${() => this.#takeName(id)}>${label}</button>`)}
              ${this._names.length === 0 ? 'No name has these words.' : nothing}
              ${this._names.length === FOUND ? 'And more: say more of the name.' : nothing}
            </div>`
      }
    </search>`
  }

  async #look(words: string): Promise<void> {
    this._words = words
    try {
      const names = words.trim() === '' ? [] : ((await this.search?.(words, FOUND)) ?? [])
      if (this._words === words) this._names = names
    } catch (error) {
      this.problem = toError(error).message
    }
  }

  #takeName(id: string): void {
    this._words = ''
    this._names = []
    this.dispatchEvent(new CustomEvent('choose-listed', { detail: id }))
  }

  #place(pen: Pen): string {
    if (this.#holds(pen) && pen.place === 'vram') {
      const weight = this.held.find((each) => each.pen === pen)?.weight ?? 1
      return weight === 1 ? 'in hand' : `in hand × ${weight}`
    }
    if (pen === this.chosen && pen.place === 'vram') return 'switching'
    if (pen.withdrawn !== undefined) return 'withdrawn'
    if (pen.place === 'network' && pen.cached) return 'on this device'
    if (pen.place === 'network' && this.offline && pen.file === undefined) return 'offline'
    return { network: pen.file === undefined ? 'to fetch' : 'your file', fetching: '', vram: 'ready' }[
      pen.place
    ]
  }

  #scale(pen: Pen) {
    const whole = wholeOf(pen)
    return whole === 0
      ? nothing
      : html`<span class="scale"><i .style=${`--share: ${share(pen.bytes, whole)}`}></i></span>`
  }

  #variants(pen: Pen) {
    if (pen.variants === undefined) return nothing
    const variants = pen.variants.slice(0, DRAWN)
    if (!variants.includes(pen)) variants.push(pen)
    return html`<select
      class="variants figure"
      title="A smaller file is less exact"
      aria-label="Size of ${pen.label}"
      ?disabled=${this.disabled}
      @change=${(event: Event) => {
        const variant = variants[(event.target as HTMLSelectElement).selectedIndex]
        this.dispatchEvent(new CustomEvent('choose-variant', { detail: { pen, variant } }))
      }}
    >
      ${variants.map((variant) => html`<option .selected=${variant === pen}>${formatBytes(variant.bytes)}</option>`)}
    </select>`
  }

  #holds(pen: Pen): boolean {
    return this.held.length === 0 ? pen.ink === 0 : this.held.some((each) => each.pen === pen)
  }

  #fire(type: 'choose' | 'stop-fetching', pen: Pen): void {
    this.dispatchEvent(new CustomEvent(type, { detail: pen }))
  }
}

/** Bytes of the 16-bit weights that a file stands for; 0 if its registry does not say. */
function wholeOf({ replaces }: Pen): number {
  return replaces?.f16Delta ?? replaces?.f16Lora ?? 0
}

function sizeText(pen: Pen): string {
  if (pen.bytes <= 0) return ''
  const whole = wholeOf(pen)
  return whole > 0 ? `${formatBytes(pen.bytes)} instead of ${formatBytes(whole)}` : formatBytes(pen.bytes)
}

/** What was measured of a skill. */
function factsOf({ scores }: Pen): string {
  if (scores === undefined) return ''
  const { expert, base, n } = scores
  return `${Math.round(100 * expert)} % of ${n} answers exact, base ${Math.round(100 * base)} %.`
}

function titleOf({ licence }: Pen): string | typeof nothing {
  return licence === undefined ? nothing : `Licence: ${licence}`
}

function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(1, part / whole) : 0
}
