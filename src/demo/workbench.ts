import { css, html, LitElement, nothing, type PropertyValues } from 'lit'
import { ternaryEntropy } from '../compress/inspect.ts'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import type { Pen } from '../element/switcher_state.ts'
import { base, theme } from '../element/theme.ts'
import { formatBytes } from '../element/units.ts'
import { isAbortError } from '../errors.ts'
import { readHead } from '../format/head.ts'
import type { Expert } from '../loader/index.ts'
import { connectWorker, startWorker, type WorkerLink } from '../rpc/index.ts'
import { blobSource } from '../source/memory.ts'
import { folderUrl } from '../source/model_folder.ts'
import { type Agreement, type MeasuredText, measureAgreement } from './agreement.ts'
import type { Compressor, Made, Opened } from './compressor.ts'
import type { Brought } from './dropped_files.ts'
import { fetchText, heldOutTexts } from './measurement.ts'

const DENSITIES = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5]
/** Around 1, where the scale that follows what is kept is at its best. */
const ALPHAS = [0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3, 4, 6, 8]

/** Where the sliders start: what keeps about nine tenths of a fine-tuning, and adapters have less to spare. */
const START = { full: 0.1, lora: 0.2, ia3: 0.5 }

const METHODS = { full: 'fine-tuning', lora: 'LoRA adapter', ia3: '(IA)³ adapter' }

/** What is brought to be compressed. */
export type BroughtWeights = Extract<Brought, { kind: 'weights' }>

/**
 * Compresses an adapter or a fine-tuning in a worker, as densely and as strongly as the sliders say, and keeps the
 * result beside the other pens.
 *
 * @fires close - the visitor is done with it
 */
export class Workbench extends LitElement {
  static override properties = {
    switcher: { attribute: false },
    brought: { attribute: false },
    _density: { state: true },
    _alpha: { state: true },
  }

  static override styles = [
    theme,
    base,
    css`
      section {
        margin-top: 16px;
        padding-top: 12px;
        border-top: 2px solid var(--ink);
      }
      h3 {
        display: flex;
        gap: 12px;
        align-items: baseline;
        margin: 0;
        font-size: 16px;
        color: var(--ink);
        overflow-wrap: anywhere;
      }
      h3 button {
        margin-left: auto;
        font-size: 12px;
        font-weight: 400;
        color: var(--trit-text);
      }
      p {
        margin: 4px 0 0;
        color: var(--trit-muted);
        overflow-wrap: anywhere;
      }
      .bench {
        display: grid;
        grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);
        gap: 12px 48px;
        margin-top: 12px;
      }
      .sliders {
        display: grid;
        grid-template-columns: auto minmax(0, 1fr) 64px;
        gap: 8px 12px;
        align-items: center;
        align-content: start;
      }
      input[type='range'] {
        width: 100%;
        margin: 0;
        accent-color: var(--ink);
      }
      output {
        text-align: right;
      }
      .bar {
        grid-column: 1 / -1;
        height: 3px;
        background: var(--trit-hairline);
      }
      .bar i {
        display: block;
        width: calc(100% * var(--share));
        height: 100%;
        background: var(--ink);
      }
      dl {
        display: grid;
        grid-template-columns: auto minmax(0, 1fr);
        gap: 4px 16px;
        margin: 0;
      }
      dt {
        color: var(--trit-muted);
      }
      dd {
        margin: 0;
      }
      dd span {
        color: var(--trit-muted);
      }
      .actions {
        display: flex;
        flex-wrap: wrap;
        gap: 8px;
        margin-top: 12px;
      }
      .problem {
        color: var(--trit-error);
      }
      @media (max-width: 767px) {
        .bench {
          grid-template-columns: minmax(0, 1fr);
        }
      }
    `,
  ]

  declare switcher: ExpertSwitcher
  declare brought: BroughtWeights
  declare _density: number
  declare _alpha: number

  static #count = 0
  readonly #id = `made-${++Workbench.#count}`
  #link?: WorkerLink<Compressor>
  /** Ends all that is under way for what was brought. */
  #stop = new AbortController()
  /** Ends what the next move of a slider makes pointless. */
  #stopStep = new AbortController()
  #opened?: Opened
  #made?: readonly Made[]
  #progress?: number
  #pen?: Pen
  #uncompressed?: Promise<Expert>
  #agreement?: Agreement
  #agreementProblem = ''
  #problem = ''

  override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('brought')) void this.#open()
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    this.#stop.abort()
    this.#stopStep.abort()
    this.#link?.terminate()
    void this.#uncompressed?.then((expert) => expert.release()).catch(() => {})
  }

  override render() {
    const opened = this.#opened
    return html`<section data-ink=${this.#pen?.ink ?? 0} aria-label="Compressing ${this.brought.name}">
      <h3>
        ${this.brought.name}
        <button @click=${() => this.dispatchEvent(new CustomEvent('close'))}>Done</button>
      </h3>
      <p>${opened === undefined ? (this.#problem === '' ? 'Reading it' : nothing) : aboutOf(opened)}</p>
      ${this.#problem === '' ? nothing : html`<p class="problem" role="alert">${this.#problem}</p>`}
      ${opened === undefined ? nothing : this.#bench(opened)}
    </section>`
  }

  #bench(opened: Opened) {
    const made = this.#chosen
    const density = DENSITIES[this._density]!
    const alpha = ALPHAS[this._alpha]!
    return html`<div class="bench">
        <div class="sliders figure">
          <label for="density">Density</label>
          <input
            id="density"
            type="range"
            min="0"
            max=${DENSITIES.length - 1}
            .value=${String(this._density)}
            aria-valuetext="${percent(density)} of the entries are kept"
            @input=${(event: Event) => {
              this._density = positionOf(event)
            }}
            @change=${() => this.#compress()}
          />
          <output for="density">${percent(density)}</output>
          <label for="alpha">Alpha</label>
          <input
            id="alpha"
            type="range"
            min="0"
            max=${ALPHAS.length - 1}
            .value=${String(this._alpha)}
            aria-valuetext="× ${alpha}"
            @input=${(event: Event) => {
              this._alpha = positionOf(event)
            }}
            @change=${() => this.#take()}
          />
          <output for="alpha">× ${alpha}</output>
          <div class="bar" role="progressbar" aria-label="Compressing" aria-valuemin="0" aria-valuemax="100"
            aria-valuenow=${Math.round(100 * (this.#progress ?? 1))}
            ><i .style=${`--share: ${this.#progress ?? 0}`}></i></div>
        </div>
        <dl class="figure">
          <dt>Size</dt>
          <dd class="size">${made === undefined ? this.#estimate(opened) : sizeOf(made)}</dd>
          <dt>Weights</dt>
          <dd class="fit">${
            made === undefined
              ? '…'
              : html`cosine ${made.cosine.toFixed(2)} <span>between what is kept and the whole change</span>`
          }</dd>
          <dt>Agreement</dt>
          <dd class="agreement" aria-live="polite">${this.#agreementText()}</dd>
        </dl>
      </div>
      <div class="actions">
        <button
          class="primary"
          ?disabled=${this.#pen === undefined || this.#pen === this.switcher.state.chosen}
          @click=${() => this.#pen && this.switcher.state.choose(this.#pen).then(() => this.requestUpdate())}
          >Take it in hand</button
        >
        <button ?disabled=${made === undefined} @click=${() => this.#save()}>Save as .trit</button>
      </div>
      ${opened.notes.slice(0, 3).map((note) => html`<p>${note}</p>`)}`
  }

  /** The file of the alpha at the slider, unless that of another density is still being made. */
  get #chosen(): Made | undefined {
    const made = this.#made?.[this._alpha]
    return made?.density === DENSITIES[this._density] ? made : undefined
  }

  #estimate({ weights }: Opened) {
    return `about ${formatBytes((weights * ternaryEntropy(DENSITIES[this._density]!)) / 8)}`
  }

  #agreementText() {
    const agreement = this.#agreement
    if (this.#agreementProblem !== '') return html`<span class="problem">${this.#agreementProblem}</span>`
    if (agreement === undefined) return '…'
    const { positions, own, base: ofBase, klBits } = agreement
    return html`${percent(own / positions)} of next tokens as the uncompressed one
      <span
        >(the base: ${percent(ofBase / positions)}); KL ${(klBits / positions).toFixed(3)} bits, on ${positions} tokens of
        ${this.brought.text?.name ?? 'the held-out texts'}</span
      >`
  }

  async #open(): Promise<void> {
    this.#stop.abort()
    this.#stop = new AbortController()
    const { signal } = this.#stop
    try {
      this.#link ??= connectWorker<Compressor>(
        startWorker(
          (Worker) => new Worker(new URL('./compressor_worker.ts', import.meta.url), { type: 'module' }),
        ),
        'compressor',
      )
      const folder = folderUrl(this.switcher.model, document.baseURI)
      const { name, files } = this.brought
      const opened = await this.#link.api.open(name, files, folder, signal)
      this._density = DENSITIES.indexOf(START[opened.method])
      this._alpha = ALPHAS.indexOf(1)
      this.#opened = opened
      await this.#compress()
    } catch (error) {
      this.#failed(error)
    }
    this.requestUpdate()
  }

  async #compress(): Promise<void> {
    const link = this.#link
    if (link === undefined || this.#chosen !== undefined) return
    this.#stopStep.abort()
    this.#stopStep = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stopStep.signal])
    this.#problem = ''
    this.#agreement = undefined
    this.#progress = 0
    this.requestUpdate()
    try {
      const density = DENSITIES[this._density]!
      const onProgress = (done: number, total: number) => {
        if (signal.aborted) return
        this.#progress = total > 0 ? done / total : 0
        this.requestUpdate()
      }
      const made = await link.api.compress(density, ALPHAS, this.brought.name, signal, onProgress)
      signal.throwIfAborted()
      this.#made = made
      this.#progress = undefined
      await this.#take()
    } catch (error) {
      if (this.#stopStep.signal.aborted) return
      this.#progress = undefined
      this.#failed(error)
    }
  }

  /** Puts the file of the sliders beside the other pens: in hand the first time, later if its place is in hand. */
  async #take(): Promise<void> {
    const made = this.#chosen
    const opened = this.#opened
    if (made === undefined || opened === undefined) return
    this.#stopStep.abort()
    this.#stopStep = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stopStep.signal])
    const { state } = this.switcher
    try {
      const { name } = this.brought
      const { rootHash } = await readHead(blobSource(made.file, name))
      signal.throwIfAborted()
      const { density, alpha, bytes } = made
      const f16 = Math.round(bytes * made.ratioToF16)
      const entry = {
        id: this.#id,
        label: name,
        description: `Your ${METHODS[opened.method]}, compressed here`,
        method: opened.method,
        replaces: opened.method === 'full' ? { f16Delta: f16 } : { f16Lora: f16 },
        file: made.file,
        rootHash,
        density,
        alpha,
        bytes,
      }
      if (this.#pen === undefined) {
        this.#pen = state.addPen(entry)
        await state.choose(this.#pen)
      } else {
        this.#pen = await state.replacePen(this.#pen, entry)
      }
      if (this.#pen.error !== undefined) throw new Error(this.#pen.error)
      this.requestUpdate()
      await this.#agree(this.#pen, signal)
    } catch (error) {
      if (!this.#stopStep.signal.aborted) this.#failed(error)
    }
    this.requestUpdate()
  }

  async #agree(pen: Pen, signal: AbortSignal): Promise<void> {
    const { loader, pens } = this.switcher.state
    this.#agreement = undefined
    this.#agreementProblem = ''
    const texts = this.#texts(pens)
    if (loader === undefined || texts.length === 0) {
      this.#agreementProblem = 'not measured: no text is at hand; bring a .txt file along'
      return
    }
    try {
      this.#uncompressed ??= this.#loadUncompressed()
      const uncompressed = await this.#uncompressed
      const [own] = await this.switcher.state.resident([{ pen, weight: 1 }])
      const found = (agreement: Agreement) => {
        this.#agreement = agreement
        this.requestUpdate()
      }
      await measureAgreement(loader, { uncompressed, own: own!.expert }, texts, found, signal)
    } catch (error) {
      if (signal.aborted || isAbortError(error)) return
      this.#uncompressed = undefined
      this.#agreementProblem = `not measured: ${(error as Error).message}`
    }
  }

  async #loadUncompressed(): Promise<Expert> {
    const blob = await this.#link!.api.uncompressed(this.#stop.signal)
    return this.switcher.state.loader!.load({ source: blob, id: `${this.#id}-uncompressed` })
  }

  #texts(pens: readonly Pen[]): MeasuredText[] {
    const { text } = this.brought
    if (text !== undefined)
      return [{ name: text.name, read: (characters) => text.slice(0, 4 * characters).text() }]
    return heldOutTexts(pens).map(({ name, url }) => ({
      name,
      read: async (characters, signal) => (await fetchText(url, signal)).slice(0, characters),
    }))
  }

  #failed(error: unknown): void {
    if (this.#stop.signal.aborted) return
    this.#problem = (error as Error).message
    if (this.#pen?.error !== undefined) {
      // What cannot be used is told here and is no pen.
      this.switcher.state.removePen(this.#pen)
      this.#pen = undefined
    }
    this.requestUpdate()
  }

  #save(): void {
    const made = this.#chosen
    if (made === undefined) return
    const link = document.createElement('a')
    link.href = URL.createObjectURL(made.file)
    link.download = `${this.brought.name.replace(/\.safetensors$/, '').replace(/[^\w.-]+/g, '-')}.trit`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  }
}

function aboutOf({ method, tensors, weights }: Opened): string {
  return `A ${METHODS[method]}: ${tensors} tensors, ${formatBytes(2 * weights)} in f16. It is read and compressed in this page and goes nowhere else.`
}

function sizeOf({ bytes, ratioToF16 }: Made) {
  return html`<b>${formatBytes(bytes)}</b>, ${Math.round(ratioToF16)} × smaller than in f16`
}

function percent(share: number): string {
  const value = 100 * share
  return `${value < 10 ? Math.round(10 * value) / 10 : Math.round(value)} %`
}

function positionOf(event: Event): number {
  return Number((event.target as HTMLInputElement).value)
}
