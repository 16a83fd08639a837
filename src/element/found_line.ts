import { css, html, nothing, type TemplateResult } from 'lit'
import type { Found } from './automatic.ts'
import type { Pen } from './pens.ts'

/** Looks of {@link foundLine}. */
export const foundStyles = css`
  .found {
    display: flex;
    flex-wrap: wrap;
    gap: 2px 10px;
    align-items: center;
    min-height: 26px;
    font-size: 12px;
    line-height: 18px;
    color: var(--trit-muted);
    overflow-wrap: anywhere;
  }
  .found label {
    display: flex;
    gap: 6px;
    align-items: center;
    white-space: nowrap;
  }
  .found select {
    padding: 1px 4px;
    font: inherit;
    color: var(--trit-text);
    background: var(--trit-paper);
    border: 1px solid var(--trit-hairline);
    border-radius: 4px;
  }
  @container switcher (max-width: 720px) {
    .found select {
      min-width: 44px;
      min-height: 44px;
      padding: 2px 10px;
    }
  }
`

/** Pens that can be chosen from at once. */
const OFFERED = 100

/**
 * Who was found for a request and why, and the choice of another one.
 * @param change - undefined where it is too late to change it
 */
export function foundLine(
  found: Found,
  pens: readonly Pen[],
  change: ((pen: Pen) => void) | undefined,
): TemplateResult {
  const offered = pens.filter(
    ({ id, withdrawn }, at) => withdrawn === undefined && (at < OFFERED || id === found.id),
  )
  return html`<div class="found">
    <span>${found.why}.</span>
    ${
      change === undefined
        ? nothing
        : html`<label
            >Answer with
            <select
              @change=${(event: Event) => change(offered[(event.target as HTMLSelectElement).selectedIndex]!)}
            >
              ${offered.map((pen) => html`<option .selected=${pen.id === found.id}>${pen.label}</option>`)}
            </select></label
          >`
    }
  </div>`
}
