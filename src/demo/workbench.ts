import { html, LitElement, nothing, type PropertyValues } from 'lit'
import { ternaryEntropy } from '../compress/ternary_entropy.ts'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { base, theme } from '../element/theme.ts'
import { formatBytes } from '../element/units.ts'
import { ALPHAS, type BroughtWeights, CompressionJob, nameOfMethod } from './compression_job.ts'
import type { Keep, Made, Opened } from './compressor.ts'
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
    const { opened, pen, problem, name } = this.#job
    return html`<section data-ink=${pen?.ink ?? 0} aria-label="Compressing ${this.brought.name}">
      <h3>
        <label for="name">Name</label>
        <input
          id="name"
          class="name"
          maxlength="80"
          autocomplete="off"
          .value=${name}
          @change=${(event: Event) => this.#job.rename((event.target as HTMLInputElement).value)}
        />
        <button @click=${() => this.dispatchEvent(new CustomEvent('close'))}>Done</button>
      </h3>
      <p>${opened === undefined ? (problem === '' ? 'Reading…' : nothing) : aboutOf(opened)}</p>
      ${problem === '' ? nothing : html`<p class="problem" role="alert">${problem}</p>`}
      ${opened === undefined ? nothing : this.#bench(opened)}
    </section>`
  }

  #bench(opened: Opened) {
    const job = this.#job
    const { made, pen } = job
    return html`<div class="bench">
        <div class="sliders figure">
          ${this.#keepSlider()} ${job.isTerms ? nothing : this.#alphaSlider()}
          <div class="bar" role="progressbar" aria-label="Compressing" aria-valuemin="0" aria-valuemax="100"
            aria-valuenow=${Math.round(100 * (job.progress ?? 1))}
            ><i .style=${`--share: ${job.progress ?? 0}`}></i></div>
        </div>
        <dl class="figure">
          <dt>Size</dt>
          <dd class="size">${made === undefined ? estimateOf(opened, job.keep) : sizeOf(made)}</dd>
          ${
            made !== undefined && made.cosine === undefined
              ? nothing
              : html`<dt>Weights</dt>
                  <dd class="fit">${
                    made?.cosine === undefined
                      ? '…'
                      : html`cosine ${made.cosine.toFixed(2)} <span>between what is kept and the full change</span>`
                  }</dd>`
          }
          <dt>Agreement</dt>
          <dd class="agreement" aria-live="polite">${this.#agreementText()}</dd>
        </dl>
      </div>
      ${this.#compare()}
      <div class="actions">
        <button
          class="primary"
          ?disabled=${pen === undefined || pen === this.switcher.state.chosen}
          @click=${() => pen && this.switcher.state.choose(pen).then(() => this.requestUpdate())}
          >Pick it up</button
        >
        <button ?disabled=${made === undefined} @click=${() => this.#save()}>Save as .trit</button>
      </div>
      ${opened.notes.slice(0, 3).map((note) => html`<p>${note}</p>`)}`
  }

  #keepSlider() {
    const job = this.#job
    const { keep } = job
    const text =
      'terms' in keep ? `${keep.terms} ${keep.terms === 1 ? 'term' : 'terms'}` : percent(keep.density)
    return html`<label for="keep">How much to keep</label>
      <input
        id="keep"
        type="range"
        min="0"
        max=${job.steps.length - 1}
        .value=${String(job.kept)}
        aria-valuetext=${'terms' in keep ? `${text} of each matrix` : `${text} of the entries`}
        @input=${(event: Event) => {
          job.kept = positionOf(event)
          this.requestUpdate()
        }}
        @change=${() => job.compress()}
      />
      <output for="keep">${text}</output>`
  }

  #alphaSlider() {
    const job = this.#job
    const alpha = ALPHAS[job.alpha]!
    return html`<label for="alpha">How strong</label>
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
      <output for="alpha">× ${alpha}</output>`
  }

  /** A text or questions of the visitor's, and of questions what both answered. */
  #compare() {
    const { answers, pen } = this.#job
    const chat = this.switcher.mode === 'chat'
    const onSubmit = (event: Event) => {
      event.preventDefault()
      const given = new FormData(event.target as HTMLFormElement).get('given')
      void this.#job.compareOn(String(given ?? ''))
    }
    return html`<form class="compare" @submit=${onSubmit}>
        <label for="given">Compare with the original on ${chat ? 'your own questions, one per line' : 'a text of your own'}</label>
        <textarea id="given" name="given" rows="3" spellcheck="false"></textarea>
        <button ?disabled=${pen === undefined}>Compare</button>
      </form>
      ${
        answers.length === 0
          ? nothing
          : html`<table class="answers">
              <thead>
                <tr><th scope="col">Question</th><th scope="col">The original</th><th scope="col">The small file</th></tr>
              </thead>
              <tbody>
                ${answers.map(
                  ({ question, own, uncompressed, done }) =>
                    html`<tr>
                      <th scope="row">${question}</th>
                      <td>${uncompressed}</td>
                      <td>${own} ${done ? html`<b>${own === uncompressed ? 'The same.' : 'Different.'}</b>` : nothing}</td>
                    </tr>`,
                )}
              </tbody>
            </table>`
      }`
  }

  #agreementText() {
    const { agreement, agreementProblem, answers } = this.#job
    if (agreementProblem !== '') return html`<span class="problem">${agreementProblem}</span>`
    if (answers.length > 0) {
      const done = answers.filter((each) => each.done)
      const same = done.filter(({ own, uncompressed }) => own === uncompressed).length
      return html`${same} of ${done.length} answers are identical`
    }
    if (agreement === undefined) return '…'
    const { positions, own, base: ofBase, klBits } = agreement
    return html`${percent(own / positions)} of next tokens match the original
      <span
        >(the base: ${percent(ofBase / positions)}); KL ${(klBits / positions).toFixed(3)} bits, on ${positions} tokens of
        ${this.brought.text?.name ?? 'the held-out texts'}</span
      >`
  }

  async #save(): Promise<void> {
    const file = await this.#job.named()
    if (file === undefined) return
    const link = document.createElement('a')
    link.href = URL.createObjectURL(file)
    link.download = `${this.#job.name.replace(/\.safetensors$/, '').replace(/[^\w.-]+/g, '-')}.trit`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
  }
}

function aboutOf({ method, tensors, weights }: Opened): string {
  return `A ${nameOfMethod(method)}: ${tensors} tensors, ${formatBytes(2 * weights)} in f16. It is read and compressed on this page and never leaves it.`
}

function estimateOf({ weights }: Opened, keep: Keep): string {
  return 'terms' in keep ? '…' : `about ${formatBytes((weights * ternaryEntropy(keep.density)) / 8)}`
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
