import { html, LitElement, nothing, type PropertyValues } from 'lit'
import { ternaryEntropy } from '../compress/inspect.ts'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { base, theme } from '../element/theme.ts'
import { formatBytes } from '../element/units.ts'
import { ALPHAS, type BroughtWeights, CompressionJob, DENSITIES, METHODS } from './compression_job.ts'
import type { Made, Opened } from './compressor.ts'
import { workbenchStyles } from './workbench_styles.ts'

/**
 * Sliders for the compression of an adapter or a fine-tuning, with its figures. The result is a pen beside the others.
 *
 * @fires close - the visitor is done
 */
export class Workbench extends LitElement {
  static override properties = {
    switcher: { attribute: false },
    brought: { attribute: false },
  }

  static override styles = [theme, base, workbenchStyles]

  declare switcher: ExpertSwitcher
  declare brought: BroughtWeights
  #job!: CompressionJob

  override willUpdate(changed: PropertyValues<this>): void {
    if (!changed.has('brought')) return
    this.#job?.dispose()
    this.#job = new CompressionJob(this.switcher, this.brought, () => this.requestUpdate())
    void this.#job.open()
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    this.#job?.dispose()
  }

  override render() {
    const { opened, pen, problem } = this.#job
    return html`<section data-ink=${pen?.ink ?? 0} aria-label="Compressing ${this.brought.name}">
      <h3>
        ${this.brought.name}
        <button @click=${() => this.dispatchEvent(new CustomEvent('close'))}>Done</button>
      </h3>
      <p>${opened === undefined ? (problem === '' ? 'Reading it' : nothing) : aboutOf(opened)}</p>
      ${problem === '' ? nothing : html`<p class="problem" role="alert">${problem}</p>`}
      ${opened === undefined ? nothing : this.#bench(opened)}
    </section>`
  }

  #bench(opened: Opened) {
    const job = this.#job
    const { made, pen } = job
    const density = DENSITIES[job.density]!
    const alpha = ALPHAS[job.alpha]!
    return html`<div class="bench">
        <div class="sliders figure">
          <label for="density">Density</label>
          <input
            id="density"
            type="range"
            min="0"
            max=${DENSITIES.length - 1}
            .value=${String(job.density)}
            aria-valuetext="${percent(density)} of the entries are kept"
            @input=${(event: Event) => {
              job.density = positionOf(event)
              this.requestUpdate()
            }}
            @change=${() => job.compress()}
          />
          <output for="density">${percent(density)}</output>
          <label for="alpha">Alpha</label>
          <input
            id="alpha"
            type="range"
            min="0"
            max=${ALPHAS.length - 1}
            .value=${String(job.alpha)}
            aria-valuetext="× ${alpha}"
            @input=${(event: Event) => {
              job.alpha = positionOf(event)
              this.requestUpdate()
            }}
            @change=${() => job.take()}
          />
          <output for="alpha">× ${alpha}</output>
          <div class="bar" role="progressbar" aria-label="Compressing" aria-valuemin="0" aria-valuemax="100"
            aria-valuenow=${Math.round(100 * (job.progress ?? 1))}
            ><i .style=${`--share: ${job.progress ?? 0}`}></i></div>
        </div>
        <dl class="figure">
          <dt>Size</dt>
          <dd class="size">${made === undefined ? estimateOf(opened, density) : sizeOf(made)}</dd>
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
          ?disabled=${pen === undefined || pen === this.switcher.state.chosen}
          @click=${() => pen && this.switcher.state.choose(pen).then(() => this.requestUpdate())}
          >Take it in hand</button
        >
        <button ?disabled=${made === undefined} @click=${() => this.#save()}>Save as .trit</button>
      </div>
      ${opened.notes.slice(0, 3).map((note) => html`<p>${note}</p>`)}`
  }

  #agreementText() {
    const { agreement, agreementProblem } = this.#job
    if (agreementProblem !== '') return html`<span class="problem">${agreementProblem}</span>`
    if (agreement === undefined) return '…'
    const { positions, own, base: ofBase, klBits } = agreement
    return html`${percent(own / positions)} of next tokens as the uncompressed one
      <span
        >(the base: ${percent(ofBase / positions)}); KL ${(klBits / positions).toFixed(3)} bits, on ${positions} tokens of
        ${this.brought.text?.name ?? 'the held-out texts'}</span
      >`
  }

  #save(): void {
    const { made } = this.#job
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

function estimateOf({ weights }: Opened, density: number): string {
  return `about ${formatBytes((weights * ternaryEntropy(density)) / 8)}`
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
