import { html, nothing, type TemplateResult } from 'lit'
import { foundLine } from './found_line.ts'
import type { Pen } from './pens.ts'
import type { SwitcherState } from './switcher_state.ts'

/** A text that shows what a pen does. */
export interface Sample {
  pen: Pen
  text: string
}

/** What the form is for: the beginning of a manuscript, or a question of a chat. */
export interface FormPurpose {
  label: string
  placeholder: string
  /** What the button says. */
  action: string
  samples: readonly Sample[]
  samplesLabel: string
  /** What choosing a sample does. */
  sampleTitle: string
  /** Whether the base can do it that is there, or can be loaded. */
  possible: boolean
  /** What leaving the choice of the pen to the switcher is called, and whether it is. */
  auto: { label: string; on: boolean }
  /** Whether the form says which pen was found: a chat says it with each answer. */
  saysFound: boolean
}

export interface FormActions {
  input(text: string): void
  submit(): void
  stop(): void
  sample(sample: Sample): void
  auto(on: boolean): void
  /** Writes it again with another pen than the one that was found. */
  writeWith(pen: Pen): void
}

/** The prompt with its button, what went wrong, and samples. */
export function promptForm(
  state: SwitcherState,
  prompt: string,
  purpose: FormPurpose,
  { input, submit, stop, sample, auto, writeWith }: FormActions,
): TemplateResult {
  const ready = purpose.possible
  const onSubmit = (event: Event) => {
    event.preventDefault()
    if (ready) submit()
  }
  const onKey = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) onSubmit(event)
  }
  return html`<form @submit=${onSubmit}>
    <textarea
      aria-label=${purpose.label}
      placeholder=${purpose.placeholder}
      spellcheck="false"
      .value=${prompt}
      @input=${(event: InputEvent) => input((event.target as HTMLTextAreaElement).value)}
      @keydown=${onKey}
    ></textarea>
    ${
      state.writing || state.finding
        ? html`<button type="button" class="write" @click=${stop}>Stop</button>`
        : html`<button class="write primary" ?disabled=${!ready || prompt.trim() === ''}>${purpose.action}</button>`
    }
    ${
      state.restarting
        ? html`<div class="notice-line" role="status">
            The GPU was lost. It is being started again, with the pens that are in hand.
          </div>`
        : nothing
    }
    ${
      state.writingProblem === ''
        ? nothing
        : html`<div class="problem-line" role="alert">${state.writingProblem}</div>`
    }
    ${state.pens.length > 1 ? autoLine(state, purpose, auto, writeWith) : nothing}
    <div
      class="samples"
      role="group"
      aria-label=${purpose.samplesLabel}
      tabindex=${ready && !state.writing ? nothing : 0}
    >
      ${purpose.samples.map(
        (each) =>
          html`<button
            type="button"
            data-ink=${each.pen.ink}
            title="${purpose.sampleTitle} ${each.pen.label}: ${each.text}"
            ?disabled=${!ready || state.writing}
            @click=${() => sample(each)}
            ><b>${each.pen.label}</b> ${oneLine(each.text)}</button
          >`,
      )}
    </div>
  </form>`
}

/** The switch that leaves the choice to the requests, and what came of it. */
function autoLine(
  state: SwitcherState,
  { auto: { label, on }, saysFound }: FormPurpose,
  auto: FormActions['auto'],
  writeWith: FormActions['writeWith'],
): TemplateResult {
  const { found, finding, writing, pens } = state
  return html`<div class="auto">
    <label class="switch"
      ><input
        type="checkbox"
        role="switch"
        .checked=${on}
        @change=${(event: Event) => auto((event.target as HTMLInputElement).checked)}
      />${label}</label
    >
    <div class="outcome" role="status">${
      finding
        ? html`<span>Looking for who fits …</span>`
        : saysFound && found !== undefined
          ? foundLine(found, pens, writing ? undefined : writeWith)
          : nothing
    }</div>
  </div>`
}

/** Of a request that begins with its material, the wish; of a beginning in lines, the lines beside each other. */
function oneLine(text: string): string {
  const lines = text.trim().split('\n')
  return lines.at(-1)!
}
