import { css, html, LitElement } from 'lit'
import { nameOfHand } from './pens.ts'
import type { MeasuredSwitch } from './switcher_state.ts'
import { base } from './theme.ts'
import { formatMs } from './units.ts'

/**
 * What the last switch cost: putting on and taking off, on the scale of loading a whole model on this device, which is what
 * it would take without experts; then all that happened besides, phase by phase.
 */
export class SwitchBar extends LitElement {
  static override properties = {
    last: { hasChanged: () => true },
    baseLoadMs: { type: Number },
  }

  static override styles = [
    base,
    css`
      h2 {
        margin: 0;
        font-size: 14px;
        font-weight: 600;
        line-height: 20px;
        overflow-wrap: anywhere;
      }
      p {
        margin: 0;
      }
      section {
        min-height: 66px;
      }
      .muted {
        color: var(--trit-muted);
        font-size: 12px;
      }
      .wait {
        opacity: 0.15;
      }
      .fetch { opacity: 0.35; }
      .verify { opacity: 0.5; }
      .upload { opacity: 0.65; }
      .apply { opacity: 1; }
      dl {
        display: flex;
        flex-wrap: wrap;
        gap: 0 16px;
        min-height: 20px;
        margin: 4px 0 0;
        font-size: 12px;
      }
      dl div {
        display: flex;
        align-items: center;
        gap: 5px;
      }
      dl i {
        display: inline-block;
        margin-right: 5px;
        width: 9px;
        height: 9px;
        border-radius: 2px;
        background: var(--ink);
      }
      dl .first {
        background: repeating-linear-gradient(135deg, var(--ink) 0 2px, transparent 2px 4px);
      }
      dt {
        color: var(--trit-muted);
      }
      dd {
        margin: 0;
      }
      .whole {
        display: flex;
        gap: 12px;
        align-items: center;
        min-height: 18px;
        margin-top: 2px;
      }
      .track {
        flex: 1;
        height: 8px;
        border-radius: 2px;
        background: var(--trit-hairline);
        overflow: hidden;
      }
      .track i {
        display: block;
        height: 100%;
        min-width: 2px;
        width: calc(100% * var(--share));
        background: var(--ink);
      }
      @container switcher (max-width: 720px) {
        dl {
          gap: 0 12px;
          min-height: 40px;
        }
        .whole {
          flex-direction: column;
          align-items: stretch;
          gap: 4px;
          height: auto;
          margin-top: 6px;
        }
        .track {
          flex: none;
        }
      }
    `,
  ]

  declare last: MeasuredSwitch | undefined
  declare baseLoadMs: number | undefined

  override render() {
    const last = this.last
    if (last === undefined) return this.#empty()
    const { phases, total } = last.report
    // The rest is the wait for the token that was being written.
    const wait = Math.max(0, total - phases.fetch - phases.verify - phases.upload - phases.apply)
    const rows: { key: string; name: string; ms: number | undefined }[] = [
      { key: 'apply', name: last.to.length === 0 ? 'take off' : 'unpack and put on', ms: phases.apply },
      { key: 'fetch', name: 'fetch', ms: phases.fetch },
      { key: 'verify', name: 'check', ms: phases.verify },
      { key: 'upload', name: 'to the GPU', ms: phases.upload },
      { key: 'wait', name: 'wait for the word in progress', ms: wait },
      { key: 'first', name: 'next word', ms: last.firstToken },
    ]
    return html`<section data-ink=${last.to[0]?.pen.ink ?? 0} aria-label="Last switch" part="last-switch">
      <h2>${switchOf(last)} in <span class="figure">${formatMs(phases.apply)}</span></h2>
      ${this.#whole(phases.apply)}
      <dl class="figure">
        ${rows.map(
          ({ key, name, ms }) =>
            html`<div><dt><i class=${key}></i>${name}</dt><dd>${ms === undefined ? 'not written yet' : formatMs(ms)}</dd></div>`,
        )}
      </dl>
    </section>`
  }

  #empty() {
    return html`<section data-ink="0" aria-label="Last switch" part="last-switch">
      <h2>No switch yet</h2>
      <p class="muted">
        Choose another pen, even in the middle of a sentence: this shows how long it took, next to loading a whole model.
      </p>
    </section>`
  }

  /** The switch on the scale of what it replaces. */
  #whole(ms: number) {
    const whole = this.baseLoadMs
    if (whole === undefined) return html`<div class="whole"></div>`
    const times = Math.round(whole / Math.max(ms, 0.1))
    return html`<div class="whole">
      <span class="track" aria-hidden="true"><i .style=${`--share: ${Math.min(1, ms / whole)}`}></i></span>
      <span class="muted figure"
        >Loading a whole fine-tuned model instead: ${formatMs(whole)}, as measured here with the base${
          times >= 2 ? `; ${times.toLocaleString('en')} times as long` : ''
        }</span
      >
    </div>`
  }
}

/** What happened, in words. */
function switchOf({ from, to }: MeasuredSwitch): string {
  const off = from.filter(({ pen }) => !to.some((each) => each.pen === pen))
  if (to.length === 0) return `${nameOfHand(from)} taken off`
  if (off.length === 0) return `${nameOfHand(to)} put on`
  return `${nameOfHand(off)} taken off, ${nameOfHand(to)} put on`
}
