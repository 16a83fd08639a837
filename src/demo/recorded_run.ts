import { html, LitElement, nothing, type PropertyValues } from 'lit'
import { base } from '../element/theme.ts'
import { formatBytes, formatMs } from '../element/units.ts'
import { recordedStyles } from './recorded_styles.ts'
import type { RecordedVoice, Recording } from './recording.ts'

/** ms between two tokens of the replay: a pace at which one can read along. */
const TOKEN_MS = 70

/**
 * A recorded run of this page: one beginning, and what each voice made of it, replayed at once. It needs no GPU and no model.
 *
 * @fires live - detail: the {@link RecordedVoice} that the visitor wants to see at work, here and now
 */
export class RecordedRun extends LitElement {
  static override properties = {
    recording: { attribute: false },
    _shown: { state: true },
  }

  static override styles = [base, recordedStyles]

  declare recording: Recording | undefined
  /** Tokens of each voice that the replay has reached. */
  declare _shown: number
  #timer?: ReturnType<typeof setTimeout>

  constructor() {
    super()
    this._shown = 0
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    clearTimeout(this.#timer)
  }

  /** The length of the longest voice. */
  get #length(): number {
    return Math.max(0, ...(this.recording?.voices ?? []).map(({ tokens }) => tokens.length))
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('recording') && this.recording !== undefined) this.#replay()
  }

  #replay(): void {
    clearTimeout(this.#timer)
    // All of it at once for those who asked for no movement.
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
      this._shown = this.#length
      return
    }
    this._shown = 0
    const next = () => {
      this._shown += 1
      if (this._shown < this.#length) this.#timer = setTimeout(next, TOKEN_MS)
    }
    this.#timer = setTimeout(next, TOKEN_MS)
  }

  protected override render() {
    const recording = this.recording
    if (recording === undefined) return nothing
    const { begin, mode, voices } = recording
    const chat = mode === 'chat'
    return html`<section aria-label="A recorded run">
      <p class="about figure">
        <b class="badge">Recorded</b>
        <span>on ${adapterOf(recording)}, ${dayOf(recording.on)}</span>
        <button class="replay" ?disabled=${this._shown < this.#length} @click=${() => this.#replay()}>Replay</button>
      </p>
      <h2>${
        chat
          ? html`One question, one model: without the skill, and with it.`
          : html`One beginning, one model, ${numberOf(voices.length)} writers.`
      }</h2>
      ${chat ? html`<p class="question"><span class="hidden">Question: </span>${begin}</p>` : nothing}
      <div class="voices" .style=${`--voices: ${voices.length}`}>
        ${voices.map((voice) => this.#voice(voice, chat ? '' : begin))}
      </div>
      <p class="cost figure">${costOf(recording)}</p>
    </section>`
  }

  #voice(voice: RecordedVoice, begin: string) {
    const { ink, label, bytes, tokens, putOnMs, id } = voice
    const shown = tokens.slice(0, this._shown)
    const rest = tokens.slice(this._shown)
    const textOf = (some: typeof tokens) => some.map(([text]) => text).join('')
    return html`<article data-ink=${ink} aria-label=${id === '' ? `${label}, no file` : label}>
      <div class="head">
        <h3>
          <svg class="nib" viewBox="0 0 9 16" aria-hidden="true"><path d="M4.5 16 8.6 6.8 6.6 0H2.4L.4 6.8z" /></svg
          >${label}
        </h3>
        <p class="file figure">${
          bytes === 0
            ? 'no file: the model itself'
            : html`a file of <b>${formatBytes(bytes)}</b>, put on in ${formatMs(putOnMs)}`
        }</p>
      </div>
      <p class="text">${begin}<span class="ink">${textOf(shown)}</span
        ><span class="rest">${textOf(rest)}</span></p>
      <button class="live" @click=${() => this.#live(voice)}>
        ${bytes === 0 ? 'Try it here' : `Try ${label} here`}
      </button>
    </article>`
  }

  #live(voice: RecordedVoice): void {
    this.dispatchEvent(new CustomEvent('live', { detail: voice }))
  }
}

function adapterOf({ adapter }: Recording): string {
  return adapter.software ? `a processor (${adapter.name})` : adapter.name
}

/** As the visitor writes a day. */
function dayOf(on: string): string {
  return new Date(`${on}T12:00:00Z`).toLocaleDateString('en-GB', {
    day: 'numeric',
    month: 'long',
    year: 'numeric',
  })
}

function numberOf(count: number): string {
  return ['no', 'one', 'two', 'three', 'four'][count] ?? String(count)
}

/** What the change of voice costs, against what it costs without such files. */
function costOf({ voices, loadMs }: Recording) {
  const files = voices.filter(({ bytes }) => bytes > 0)
  const largest = files.toSorted((a, b) => b.bytes - a.bytes)[0]
  if (largest === undefined) return nothing
  const off = Math.max(...files.map(({ takeOffMs }) => takeOffMs))
  const on = Math.max(...files.map(({ putOnMs }) => putOnMs))
  return html`<b>${formatBytes(largest.bytes)} did this</b>; a fine-tuned model of its own would be
    <b>${formatBytes(largest.whole)}</b>. There it was put on in ${formatMs(on)} and taken off in ${formatMs(off)}, between two
    words; loading a model took ${formatMs(loadMs)}.`
}
