import { css } from 'lit'

/** The cards of the pens. */
export const penChoiceStyles = css`
  fieldset {
    margin: 0;
    padding: 0;
    border: 0;
    min-width: 0;
  }
  .pen {
    position: relative;
    border-bottom: 1px solid var(--trit-hairline);
  }
  .pen:first-of-type {
    border-top: 1px solid var(--trit-hairline);
  }
  label {
    position: relative;
    display: grid;
    grid-template-columns: 22px minmax(0, 1fr) auto auto 22px;
    column-gap: 8px;
    align-items: center;
    padding: 5px 8px 6px 10px;
    cursor: pointer;
    transition: background 120ms;
  }
  label::before {
    content: '';
    position: absolute;
    inset: 0 auto 0 0;
    width: 3px;
    background: var(--ink);
    scale: 1 0;
    transition: scale 120ms;
  }
  label:hover {
    background: var(--trit-wash);
  }
  .pen.chosen label {
    background: color-mix(in srgb, var(--ink) 9%, transparent);
  }
  .pen.held label::before {
    scale: 1 1;
  }
  :disabled label {
    cursor: default;
  }
  label:has(:focus-visible) {
    outline: 2px solid var(--trit-focus);
    outline-offset: -2px;
  }
  /* Over the whole card, so that what is clicked and what has the focus are the same thing. */
  input {
    position: absolute;
    inset: 0;
    width: 100%;
    height: 100%;
    margin: 0;
    opacity: 0;
    cursor: inherit;
  }
  .nib {
    width: 20px;
    height: 20px;
    fill: none;
    stroke: var(--ink);
    stroke-width: 1.5;
    stroke-linejoin: round;
  }
  .held .nib {
    fill: var(--ink);
  }
  .held .nib .slit {
    stroke: var(--trit-paper);
  }
  .name {
    font-weight: 600;
    overflow-wrap: anywhere;
  }
  .held .name {
    color: var(--ink);
  }
  .about {
    grid-column: 2 / -1;
    font-size: 13px;
    line-height: 18px;
    color: var(--trit-muted);
    overflow-wrap: anywhere;
  }
  .place {
    font-size: 12px;
    color: var(--trit-muted);
    text-align: right;
  }
  .held .place {
    color: var(--ink);
    font-weight: 600;
  }
  kbd {
    justify-self: end;
    width: 20px;
    font: 600 12px/18px var(--trit-sans);
    text-align: center;
    color: var(--trit-muted);
    border: 1px solid var(--trit-hairline);
    border-radius: 4px;
  }
  .size {
    font-size: 12px;
    color: var(--trit-muted);
    white-space: nowrap;
  }
  .scale {
    grid-column: 2 / -1;
    height: 4px;
    margin-top: 3px;
    border-radius: 1px;
    background: var(--trit-hairline);
    overflow: hidden;
  }
  .scale i {
    display: block;
    height: 100%;
    min-width: 2px;
    width: calc(100% * var(--share));
    background: var(--ink);
  }
  .varied .about {
    min-height: 22px;
    padding: 4px 84px 0 0;
  }
  .fill {
    position: absolute;
    inset: auto 0 -1px 0;
    height: 2px;
    background: var(--ink);
    transform-origin: left;
    scale: var(--share) 1;
  }
  /* Over the card, beside what it says of the pen. */
  .withdrawn label {
    cursor: default;
    background: none;
  }
  .withdrawn .nib,
  .withdrawn .name {
    opacity: 0.7;
  }
  .withdrawn .name {
    text-decoration: line-through;
  }
  search {
    display: block;
    padding: 2px 2px 8px;
  }
  search input {
    position: static;
    height: 32px;
    padding: 4px 10px;
    font: inherit;
    color: inherit;
    background: transparent;
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
    opacity: 1;
    cursor: text;
  }
  .names {
    display: flex;
    flex-wrap: wrap;
    gap: 6px;
    align-items: center;
    padding-top: 8px;
    font-size: 12px;
    color: var(--trit-muted);
  }
  .names button {
    padding: 2px 10px;
    color: var(--trit-text);
  }
  .voucher {
    overflow-wrap: anywhere;
  }
  .variants {
    position: absolute;
    right: 8px;
    bottom: 14px;
    padding: 0 2px;
    font-family: inherit;
    font-size: 12px;
    line-height: 18px;
    color: var(--trit-muted);
    background: var(--trit-paper);
    border: 1px solid var(--trit-hairline);
    border-radius: 4px;
  }
  .error {
    display: flex;
    gap: 8px;
    align-items: flex-start;
    justify-content: space-between;
    padding: 0 8px 9px 40px;
    font-size: 13px;
    line-height: 18px;
    color: var(--trit-error);
    overflow-wrap: anywhere;
  }
  .error button,
  .stop {
    flex: none;
    padding: 1px 10px;
    font-size: 12px;
  }
  .stop {
    position: absolute;
    right: 38px;
    top: 6px;
    background: var(--trit-paper);
  }
  .note {
    margin: 8px 10px 0;
    font-size: 12px;
    line-height: 16px;
    color: var(--trit-muted);
  }
  .notice {
    margin: 0 0 8px;
    padding: 6px 10px;
    font-size: 13px;
    line-height: 18px;
    background: var(--trit-wash);
    border-radius: var(--trit-radius);
  }
  fieldset + .notice {
    margin-top: 8px;
  }
  .problem {
    display: flex;
    gap: 8px;
    align-items: flex-start;
    justify-content: space-between;
    padding: 12px 8px;
    color: var(--trit-error);
    overflow-wrap: anywhere;
  }
  @container switcher (max-width: 720px) {
    label {
      grid-template-columns: 20px minmax(0, 1fr) auto auto;
      min-height: 44px;
      padding: 6px 6px 9px 8px;
    }
    kbd,
    label > span:empty {
      display: none;
    }
    .variants {
      height: 44px;
      width: 76px;
    }
    .varied label {
      min-height: 84px;
    }
    search input {
      height: 44px;
    }
    .names button,
    .stop,
    .error button,
    .problem button,
    .more {
      min-width: 44px;
      min-height: 44px;
    }
    .stop {
      right: 6px;
      top: 2px;
    }
  }
`
