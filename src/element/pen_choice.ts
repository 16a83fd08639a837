import { css, html, LitElement, nothing } from 'lit'
import type { Pen, WeightedPen } from './switcher_state.ts'
import { base } from './theme.ts'
import { formatBytes } from './units.ts'

/** A number key chooses a pen as long as there is a key for it. */
export const KEYS = 9

/**
 * The pens as a group of radio cards: the base, then the experts, each with its size drawn to scale against
 * what it replaces and where its bytes are.
 *
 * @fires choose - detail: the {@link Pen} that the visitor chose
 * @fires choose-variant - detail: the {@link Pen} of the card and the variant to take instead
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
  }

  static override styles = [
    base,
    css`
      fieldset {
        margin: 0;
        padding: 0;
        border: 0;
        min-width: 0;
      }
      .pen {
        position: relative;
        border-bottom: 1px solid var(--trit-hairline);
      }
      .pen:first-of-type {
        border-top: 1px solid var(--trit-hairline);
      }
      label {
        position: relative;
        display: grid;
        grid-template-columns: 22px minmax(0, 1fr) auto 22px;
        column-gap: 8px;
        align-items: center;
        padding: 5px 8px 6px 10px;
        cursor: pointer;
        transition: background 120ms;
      }
      label::before {
        content: '';
        position: absolute;
        inset: 0 auto 0 0;
        width: 3px;
        background: var(--ink);
        scale: 1 0;
        transition: scale 120ms;
      }
      label:hover {
        background: var(--trit-wash);
      }
      .pen.chosen label {
        background: color-mix(in srgb, var(--ink) 9%, transparent);
      }
      .pen.held label::before {
        scale: 1 1;
      }
      :disabled label {
        cursor: default;
      }
      label:has(:focus-visible) {
        outline: 2px solid var(--trit-focus);
        outline-offset: -2px;
      }
      /* Over the whole card, so that what is clicked and what has the focus are the same thing. */
      input {
        position: absolute;
        inset: 0;
        width: 100%;
        height: 100%;
        margin: 0;
        opacity: 0;
        cursor: inherit;
      }
      .nib {
        width: 20px;
        height: 20px;
        fill: none;
        stroke: var(--ink);
        stroke-width: 1.5;
        stroke-linejoin: round;
      }
      .held .nib {
        fill: var(--ink);
      }
      .held .nib .slit {
        stroke: var(--trit-paper);
      }
      .name {
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .name {
        font-weight: 600;
      }
      .held .name {
        color: var(--ink);
      }
      .about {
        grid-column: 2 / -1;
        height: 18px;
        font-size: 13px;
        line-height: 18px;
        color: var(--trit-muted);
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .place {
        font-size: 12px;
        color: var(--trit-muted);
        text-align: right;
      }
      .held .place {
        color: var(--ink);
        font-weight: 600;
      }
      kbd {
        justify-self: end;
        width: 20px;
        font: 600 12px/18px var(--trit-sans);
        text-align: center;
        color: var(--trit-muted);
        border: 1px solid var(--trit-hairline);
        border-radius: 4px;
      }
      .size {
        grid-area: 3 / 2 / auto / -1;
        display: grid;
        grid-template-columns: minmax(0, 1fr);
        gap: 3px;
        justify-items: end;
        min-height: 16px;
        font-size: 12px;
        line-height: 16px;
        color: var(--trit-muted);
      }
      .size > :empty {
        display: none;
      }
      .scale {
        order: 1;
        width: 100%;
        position: relative;
        height: 4px;
        border-radius: 1px;
        background: var(--trit-hairline);
        overflow: hidden;
      }
      .scale s {
        position: absolute;
        inset: 0 auto 0 calc(100% * var(--share));
        width: 1px;
        background: var(--trit-text);
      }
      /* In the line of the size, which is short and at its end. */
      .facts {
        grid-area: 3 / 2 / auto / -1;
        align-self: start;
        max-width: calc(100% - 168px);
        height: 16px;
        font-size: 12px;
        line-height: 16px;
        color: var(--trit-muted);
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .facts:empty {
        display: none;
      }
      .scale i {
        display: block;
        height: 100%;
        min-width: 2px;
        width: calc(100% * var(--share));
        background: var(--ink);
      }
      .fill {
        position: absolute;
        inset: auto 0 -1px 0;
        height: 2px;
        background: var(--ink);
        transform-origin: left;
        scale: var(--share) 1;
      }
      /* Over the card, in the line of its name. */
      .variants {
        position: absolute;
        top: 6px;
        right: 136px;
        padding: 0 2px;
        font-family: inherit;
        font-size: 12px;
        line-height: 18px;
        color: var(--trit-muted);
        background: var(--trit-paper);
        border: 1px solid var(--trit-hairline);
        border-radius: 4px;
      }
      .error {
        display: flex;
        gap: 8px;
        align-items: flex-start;
        justify-content: space-between;
        padding: 0 8px 9px 40px;
        font-size: 13px;
        line-height: 18px;
        color: var(--trit-error);
        overflow-wrap: anywhere;
      }
      .error button,
      .stop {
        flex: none;
        padding: 1px 10px;
        font-size: 12px;
      }
      .stop {
        position: absolute;
        right: 38px;
        top: 6px;
        background: var(--trit-paper);
      }
      .note {
        margin: 8px 10px 0;
        font-size: 12px;
        line-height: 16px;
        color: var(--trit-muted);
      }
      .notice {
        margin: 0 0 8px;
        padding: 6px 10px;
        font-size: 13px;
        line-height: 18px;
        background: var(--trit-wash);
        border-radius: var(--trit-radius);
      }
      fieldset + .notice {
        margin-top: 8px;
      }
      .problem {
        display: flex;
        gap: 8px;
        align-items: flex-start;
        justify-content: space-between;
        padding: 12px 8px;
        color: var(--trit-error);
        overflow-wrap: anywhere;
      }
      @container switcher (max-width: 720px) {
        label {
          grid-template-columns: 20px minmax(0, 1fr) auto 52px;
          padding: 6px 6px 9px 8px;
        }
        .about,
        .facts,
        kbd {
          display: none;
        }
        .size {
          grid-area: 1 / 3 / auto / auto;
          display: flex;
          height: auto;
          line-height: 20px;
        }
        .scale {
          position: absolute;
          inset: auto 0 0 0;
          height: 3px;
        }
        .of {
          font-size: 0;
          line-height: 0;
        }
        .of::before {
          content: '/';
          font-size: 12px;
        }
        .variants {
          position: static;
          margin: 0 0 8px 36px;
        }
        .stop {
          right: 6px;
          top: 4px;
        }
      }
    `,
  ]

  declare pens: readonly Pen[]
  declare chosen: Pen | undefined
  declare held: readonly WeightedPen[]
  declare disabled: boolean
  /** Without a network only what is here already can be had. */
  declare offline: boolean
  /** The registry lists nothing. */
  declare empty: boolean
  declare problem: string

  constructor() {
    super()
    this.pens = []
    this.held = []
    this.disabled = this.offline = this.empty = false
    this.problem = ''
  }

  override render() {
    return html`${
      this.offline
        ? html`<p class="notice" role="status">
            <b>Offline.</b> Pens that are in VRAM or on this device still write; the others wait for the network.
          </p>`
        : nothing
    }<fieldset part="pens" ?disabled=${this.disabled}>
        <legend class="hidden">Pens</legend>
        ${this.pens.map((pen, index) => this.#card(pen, index))}
      </fieldset>
      ${
        this.empty
          ? html`<p class="notice"><b>No experts are listed here yet.</b> The base writes alone.</p>`
          : nothing
      }
      ${
        this.pens.some((pen) => pen.replaces?.f16Delta)
          ? html`<p class="note">
              Bar: share of the 16-bit weights that it replaces. Tick: a 16-bit LoRA, rank 8.
            </p>`
          : nothing
      }
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
    const states = [pen === this.chosen && 'chosen', this.#holds(pen) && 'held'].filter(Boolean).join(' ')
    return html`<div class="pen ${states}" data-ink=${pen.ink} part="pen">
      <label>
        <input
          type="radio"
          name="pen"
          .checked=${pen === this.chosen}
          @change=${() => this.#fire('choose', pen)}
          aria-label=${pen.label}
          aria-describedby="about-${index} place-${index} size-${index} facts-${index} error-${index}"
        />
        <svg class="nib" viewBox="0 0 20 20" aria-hidden="true">
          <path d="M10 1.5 15 10.5 12.4 18.5H7.6L5 10.5z" />
          <path class="slit" d="M10 3v8" />
        </svg>
        <b class="name">${pen.label}</b>
        <span class="place figure" id="place-${index}">${this.#place(pen)}</span>
        ${index < KEYS ? html`<kbd aria-hidden="true">${index + 1}</kbd>` : html`<span></span>`}
        <span class="about" id="about-${index}" title=${pen.description ?? ''}>${pen.description ?? ''}</span>
        <span class="size figure" id="size-${index}">${this.#size(pen)}</span>
        <span class="facts figure" id="facts-${index}">${factsOf(pen).join(' · ')}</span>
      </label>
      ${this.#variants(pen)}
      ${
        pen.place === 'fetching'
          ? html`<i class="fill" .style=${`--share: ${share(pen.loaded, pen.bytes)}`}></i>
              <button class="stop" @click=${() => this.#fire('stop-fetching', pen)}>Stop</button>`
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

  #place(pen: Pen): string {
    if (this.#holds(pen) && pen.place === 'vram') {
      const weight = this.held.find((each) => each.pen === pen)?.weight ?? 1
      return weight === 1 ? 'in hand' : `in hand × ${weight}`
    }
    if (pen === this.chosen && pen.place === 'vram') return 'switching'
    if (pen.place === 'network' && pen.cached) return 'on this device'
    if (pen.place === 'network' && this.offline && pen.file === undefined) return 'offline'
    return { network: pen.file === undefined ? 'network' : 'your file', fetching: '', vram: 'in VRAM' }[
      pen.place
    ]
  }

  #size(pen: Pen) {
    const { f16Delta, f16Lora } = pen.replaces ?? {}
    const whole = f16Delta ?? f16Lora
    if (whole === undefined || whole <= 0) {
      return html`<span></span><span>${pen.bytes > 0 ? formatBytes(pen.bytes) : ''}</span>`
    }
    return html`<span class="scale"
        ><i .style=${`--share: ${share(pen.bytes, whole)}`}></i
        >${
          f16Delta === undefined || f16Lora === undefined
            ? nothing
            : html`<s .style=${`--share: ${share(f16Lora, whole)}`}></s>`
        }</span
      ><span>${formatBytes(pen.bytes)} <span class="of">instead of</span> ${formatBytes(whole)}</span>`
  }

  #variants(pen: Pen) {
    if (pen.variants === undefined) return nothing
    return html`<select
      class="variants figure"
      title="Size, and the share of the weights that it changes"
      aria-label="Size of ${pen.label}"
      ?disabled=${this.disabled}
      @change=${(event: Event) => {
        const variant = pen.variants?.[(event.target as HTMLSelectElement).selectedIndex]
        this.dispatchEvent(new CustomEvent('choose-variant', { detail: { pen, variant } }))
      }}
    >
      ${pen.variants.map((variant) => html`<option .selected=${variant === pen}>${sizeOf(variant)}</option>`)}
    </select>`
  }

  #holds(pen: Pen): boolean {
    return this.held.length === 0 ? pen.ink === 0 : this.held.some((each) => each.pen === pen)
  }

  #fire(type: 'choose' | 'stop-fetching', pen: Pen): void {
    this.dispatchEvent(new CustomEvent(type, { detail: pen }))
  }
}

/** What there is to know of an expert beside its size. */
function factsOf({ replaces, density, licence }: Pen): string[] {
  const facts: string[] = []
  if (density !== undefined) facts.push(`keeps ${round(100 * density)} %`)
  if (replaces?.f16Delta !== undefined && replaces.f16Lora !== undefined)
    facts.push(`LoRA: ${formatBytes(replaces.f16Lora)}`)
  if (licence !== undefined) facts.push(licence)
  return facts
}

function sizeOf({ bytes, density }: Pen): string {
  return density === undefined ? formatBytes(bytes) : `${formatBytes(bytes)} · ${round(100 * density)} %`
}

function round(percent: number): number {
  return Math.round(percent * 10) / 10
}

function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(1, part / whole) : 0
}
