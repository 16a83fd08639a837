import { html, nothing, type TemplateResult } from 'lit'
import { downloadText, engineText } from './download_size.ts'
import type { SwitcherState } from './switcher_state.ts'
import { formatBytes } from './units.ts'
import { howToGetWebGpu } from './webgpu_help.ts'

export interface BaseActions {
  load(): void
  stop(): void
  startAgain(): void
}

/**
 * What stands in place of the manuscript while the base is not ready.
 * @param preceded - something stands above it that says what this is about
 */
export function baseState(
  state: SwitcherState,
  { load, stop, startAgain }: BaseActions,
  preceded = false,
): TemplateResult | typeof nothing {
  switch (state.status) {
    case 'ready':
      return nothing
    case 'loading':
      return html`<div class="state" part="state">
        <h2>The base is on its way</h2>
        ${line(state)}
        <p class="figure">${loadingText(state)}</p>
        <button @click=${stop}>Stop</button>
      </div>`
    case 'idle':
      return html`<div class="state idle" part="state">
        ${
          state.total > 0 && state.loaded < state.total
            ? html`<h2>The base is partly downloaded</h2>
                ${line(state)}
                <p class="figure">
                  ${formatBytes(state.loaded)} of ${formatBytes(state.total)} downloaded; what the browser has cached is not fetched
                  again.
                </p>
                <button class="primary" @click=${load}>Resume loading</button>`
            : html`${preceded ? nothing : html`<h2>The base is not loaded</h2>`}
                <p class="figure">
                  ${state.download === undefined ? nothing : downloadText(state.download)} The model is kept in this browser for
                  your next visit, and a download that you stop resumes where it left off. Nothing you type leaves the browser.
                </p>
                <button class="primary" @click=${load}>Load the base</button>`
        }
      </div>`
    case 'failed':
      return html`<div class="state problem" part="state" role="alert">
        <h2>The base could not be loaded</h2>
        <p>${state.online ? nothing : 'You are offline. '}${state.problem}</p>
        <button class="primary" @click=${load}>Try again</button>
      </div>`
    case 'lost':
      return html`<div class="state problem" part="state" role="alert">
        <h2>The GPU was lost</h2>
        <p>${state.problem}</p>
        <button class="primary" @click=${startAgain}>Start again</button>
      </div>`
    case 'unsupported':
      return html`<div class="state problem" part="state" role="alert">
        <h2>WebGPU is missing</h2>
        <p>${state.problem}. The model runs on your own GPU, through WebGPU.</p>
        <slot name="unsupported">${howToGetWebGpu()}</slot>
        <button class="primary" @click=${load}>Try again</button>
      </div>`
  }
}

/** What stands in place of the chat on a base that knows no roles. */
export function noTemplate(write: () => void): TemplateResult {
  return html`<div class="state problem" part="state" role="alert">
    <h2>This base cannot chat</h2>
    <p>
      Its tokenizer has no chat template: the model was made to continue a text, not to answer. Load an instruct model to
      chat, or give this one a text to continue.
    </p>
    <button class="primary" @click=${write}>Continue a text instead</button>
  </div>`
}

function line(state: SwitcherState) {
  const share = state.total > 0 ? Math.min(1, state.loaded / state.total) : 0
  return html`<div
    class="line"
    role="progressbar"
    aria-label="Loading the base"
    aria-valuemin="0"
    aria-valuemax="100"
    aria-valuenow=${Math.round(100 * share)}
  ><i .style=${`--share: ${share}`}></i></div>`
}

function loadingText({ loaded, total, download }: SwitcherState): string {
  const rest = download === undefined ? '' : engineText(download)
  const besides = rest === '' ? '' : `; with the model come ${rest}`
  if (total > 0 && loaded >= total) return `${formatBytes(loaded)} downloaded; preparing the GPU${besides}`
  return `${total > 0 ? `${formatBytes(loaded)} of ${formatBytes(total)}` : 'Waiting for the server'}${besides}`
}
