import { css, html, LitElement, nothing } from 'lit'
import { nameOfHand } from './pens.ts'
import type { MeasuredSwitch } from './switcher_state.ts'
import { base } from './theme.ts'
import { formatMs } from './units.ts'

/**
 * The last switch, phase by phase, and below it the same switch on the scale of loading a whole model on this device,
 * which is what it would take without experts.
 */
export class SwitchBar extends LitElement {
  static override properties = {
    last: { hasChanged: () => true },
    baseLoadMs: { type: Number },
  }

  static override styles = [
    base,
    css`
      .head {
        display: flex;
        justify-content: space-between;
        gap: 16px;
        height: 20px;
        white-space: nowrap;
      }
      .head > * {
        overflow: hidden;
        text-overflow: ellipsis;
      }
      h2:not(:only-child) {
        flex: none;
      }
      h2 {
        margin: 0;
        font-size: 14px;
        font-weight: 600;
      }
      .muted {
        color: var(--trit-muted);
        font-size: 12px;
      }
      .bar {
        display: flex;
        gap: 1px;
        height: 12px;
        margin-top: 4px;
        border-radius: 2px;
        overflow: hidden;
        background: var(--trit-wash);
      }
      .bar i {
        flex: var(--share) 1 0;
        min-width: 2px;
        background: var(--ink);
      }
      .wait {
        opacity: 0.15;
      }
      .fetch { opacity: 0.35; }
      .verify { opacity: 0.5; }
      .upload { opacity: 0.65; }
      .apply { opacity: 1; }
      .bar .first {
        background: repeating-linear-gradient(135deg, var(--ink) 0 2px, transparent 2px 5px);
        opacity: 0.8;
      }
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
        height: 18px;
        margin-top: 2px;
      }
      .track {
        flex: 1;
        height: 4px;
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
      { key: 'fetch', name: 'fetch', ms: phases.fetch },
      { key: 'verify', name: 'verify', ms: phases.verify },
      { key: 'upload', name: 'upload', ms: phases.upload },
      { key: 'wait', name: 'token in progress', ms: wait },
      { key: 'apply', name: last.to.length === 0 ? 'revert' : 'decode + apply', ms: phases.apply },
      { key: 'first', name: 'first token', ms: last.firstToken },
    ]
    return html`<section data-ink=${last.to[0]?.pen.ink ?? 0} aria-label="Last switch" part="last-switch">
      <div class="head">
        <h2>${nameOfHand(last.from)} → ${nameOfHand(last.to)}: <span class="figure">${formatMs(total)}</span></h2>
      </div>
      <div class="bar" aria-hidden="true">
        ${rows.map(({ key, ms }) =>
          ms === undefined || ms < 0.05 ? nothing : html`<i class=${key} .style=${`--share: ${ms}`}></i>`,
        )}
      </div>
      <dl class="figure">
        ${rows.map(
          ({ key, name, ms }) =>
            html`<div><dt><i class=${key}></i>${name}</dt><dd>${ms === undefined ? 'with the next word' : formatMs(ms)}</dd></div>`,
        )}
      </dl>
      ${this.#whole(total)}
    </section>`
  }

  #empty() {
    return html`<section data-ink="0" aria-label="Last switch" part="last-switch">
      <div class="head">
        <h2>Last switch</h2>
        <span class="muted">none yet; choose another pen, also in the middle of a sentence</span>
      </div>
      <div class="bar"></div>
      <dl></dl>
      <div class="whole"></div>
    </section>`
  }

  #whole(total: number) {
    const whole = this.baseLoadMs
    if (whole === undefined) return html`<div class="whole"></div>`
    return html`<div class="whole">
      <span class="track"><i .style=${`--share: ${Math.min(1, total / whole)}`}></i></span>
      <span class="muted figure">on the scale of loading the whole base here: ${formatMs(whole)}</span>
    </div>`
  }
}
