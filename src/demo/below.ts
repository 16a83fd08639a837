/**
 * The sections below the fold, loaded when the visitor scrolls near them.
 *
 * @module
 */

import { html, nothing, render, svg } from 'lit'
import { homepage, name } from '../../package.json'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { type BringYourOwn, defineBringYourOwn } from './bring_your_own.ts'
import { doorOf, isOwn } from './doors.ts'
import { Measure } from './measure.ts'
import { heldOutTexts } from './measurement.ts'
import { SideBySide } from './side_by_side.ts'

customElements.define('trit-side-by-side', SideBySide)
customElements.define('trit-measure', Measure)
defineBringYourOwn()

/** A small task vector: change and sign of 5 × 5 weights. */
const DELTA = [3, -1, 1, -6, 1, 1, 7, -1, 2, -2, -2, 1, -1, 1, 6, 1, -7, 2, 1, -1, 6, 1, -1, -2, 1]

const squares = (shade: (delta: number, index: number) => string) =>
  DELTA.map(
    (delta, index) =>
      svg`<rect x=${16 * (index % 5)} y=${16 * Math.floor(index / 5)} width="14" height="14" .style=${shade(delta, index)} />`,
  )

const colour = (delta: number) => (delta > 0 ? 'var(--gain)' : 'var(--loss)')
const kept = (delta: number) => Math.abs(delta) > 5

const STEPS = [
  {
    title: 'Subtract',
    text: 'A fine-tuned model minus its base: what the training changed. Most changes are small.',
    drawing: squares((delta) => `fill: ${colour(delta)}; opacity: ${0.12 + Math.abs(delta) / 8}`),
  },
  {
    title: 'Keep a few',
    text: 'The largest 2 to 11 % stay, each reduced to its sign: plus or minus one value for the whole matrix.',
    drawing: squares((delta) =>
      kept(delta) ? `fill: ${colour(delta)}` : 'fill: none; stroke: var(--hairline)',
    ),
  },
  {
    title: 'Pack',
    text: 'The gaps between them are Golomb-coded in tiles of 64 × 64; every 64 KiB has a SHA-256 that is checked before use.',
    drawing: DELTA.filter(kept).map((delta, index) => {
      const gap = [3, 2, 7, 1, 3][index]!
      const x = [0, 20, 36, 67, 75][index]!
      return svg`<rect x=${x} y="34" width=${2 * gap} height="12" .style=${'fill: var(--hairline)'} /><rect x=${x + 2 * gap} y="30" width="4" height="20" .style=${`fill: ${colour(delta)}`} />`
    }),
  },
  {
    title: 'Apply between two tokens',
    text: 'The file sits in GPU memory just as it arrived; a shader unpacks it and adds it in place. The values it replaces are kept, so taking it off restores the base bit for bit.',
    drawing: squares(
      (delta) => `fill: ${kept(delta) ? colour(delta) : 'var(--muted)'}; opacity: ${kept(delta) ? 1 : 0.35}`,
    ),
  },
]

/** Where more is; the build copies the documents beside the page. */
const PLACES = [
  { name: 'Documentation', href: './README.md' },
  { name: 'Source', href: homepage },
  { name: 'Package', href: `https://www.npmjs.com/package/${name}` },
  { name: 'Licence: Apache-2.0', href: './LICENSE' },
]

const SNIPPET = `<script type="module" src="https://your.host/tritswap/element.js"></script>
<expert-switcher model="/models/demo" experts="/experts/experts.json" autoload></expert-switcher>`

async function copy(event: Event): Promise<void> {
  const button = event.target as HTMLButtonElement
  try {
    await navigator.clipboard.writeText(SNIPPET)
    button.textContent = 'Copied'
  } catch {
    button.textContent = 'Select it and copy'
  }
  setTimeout(() => {
    button.textContent = 'Copy'
  }, 2000)
}

/** Draws the sections and updates them with the switcher. */
export function showBelow(place: HTMLElement, switcher: ExpertSwitcher): void {
  const draw = () => render(sections(switcher), place)
  draw()
  const parts = place.querySelectorAll<SideBySide | Measure | BringYourOwn>(
    'trit-side-by-side, trit-measure, trit-bring-your-own',
  )
  let seen = ''
  switcher.addEventListener('change', () => {
    const { mode, prompt, state } = switcher
    // The switcher changes with every token; the sections show only this.
    const shown = [
      mode,
      state.status,
      prompt.trim() === '',
      state.exchanges.length,
      ...state.pens.map(({ id }) => id),
    ].join()
    if (shown === seen) return
    seen = shown
    draw()
    for (const part of parts) part.requestUpdate()
  })
}

function sections(switcher: ExpertSwitcher) {
  const { mode, state } = switcher
  const door = doorOf(location.search)
  return html`<section aria-labelledby="side-by-side">
        <h2 id="side-by-side">All pens, one ${mode === 'chat' ? 'question' : 'prompt'}, side by side</h2>
        <p>${
          mode === 'chat'
            ? 'Your question, or the last one in the chat, answered by each pen in turn in a few words.'
            : 'The prompt above, continued by each pen in turn for a few words.'
        }</p>
        <trit-side-by-side .switcher=${switcher}></trit-side-by-side>
      </section>
      <section aria-labelledby="measure" ?hidden=${state.registryRead && heldOutTexts(state.pens).length === 0}>
        <h2 id="measure">Measure</h2>
        <trit-measure .switcher=${switcher}></trit-measure>
      </section>
      ${
        isOwn(location.search)
          ? nothing
          : html`<section aria-labelledby="bring">
              <h2 id="bring">Bring your own</h2>
              <p>
                This page turns a LoRA adapter, or a model fine-tuned from this base, into a small file: choose how much of it to
                keep, write with it, save it. Nothing is uploaded.
              </p>
              <trit-bring-your-own .switcher=${switcher}></trit-bring-your-own>
            </section>`
      }
      <section aria-labelledby="how">
        <h2 id="how">How it works</h2>
        <ol class="steps">
          ${STEPS.map(
            ({ title, text, drawing }) =>
              html`<li>
                <svg viewBox="-1 -1 82 82" aria-hidden="true">${drawing}</svg>
                <h3>${title}</h3>
                <p>${text}</p>
              </li>`,
          )}
        </ol>
      </section>
      <section aria-labelledby="embed">
        <h2 id="embed">Two lines to put it on your page</h2>
        <p><code>npm run build:lib</code> makes the folder <code>lib</code>; put it, the base and the files on any static host.</p>
        <div class="snippet">
          <pre tabindex="0" role="region" aria-label="Two lines of HTML">${SNIPPET}</pre>
          <button @click=${copy}>Copy</button>
        </div>
      </section>
      <footer>
        ${
          door === undefined
            ? nothing
            : html`<a href=${door.card}>About the model</a>
              <a href=${door.setting.experts}>All files and their hashes</a>`
        }
        ${PLACES.map(({ name, href }) => html`<a href=${href}>${name}</a>`)}
      </footer>`
}
