import { css } from 'lit'
import { foundStyles } from './found_line.ts'

/** Layout of the switcher: manuscript, pens, form and bar, in one column on narrow pages. */
export const switcherStyles = css`
  ${foundStyles}
  :host {
    container: switcher / inline-size;
  }
  .grid {
    display: grid;
    grid-template: minmax(0, 1fr) auto auto / minmax(0, 3fr) minmax(320px, 2fr);
    grid-template-areas: 'sheet pens' 'form pens' 'bar bar';
    gap: 0 24px;
    height: 100%;
  }
  trit-manuscript,
  trit-chat,
  .waiting {
    grid-area: sheet;
    min-height: 0;
  }
  .waiting {
    overflow-y: auto;
    scrollbar-width: thin;
  }
  /* What there is to know and to do stays in view; what stands above it makes room. */
  .waiting.crowded {
    display: flex;
    flex-direction: column;
  }
  .crowded ::slotted([slot='before']) {
    flex: 0 1 auto;
    min-height: 0 !important;
    overflow-y: auto;
    scrollbar-width: thin;
  }
  .crowded .state {
    flex: none;
  }
  /* The strength stays in view below the pens, however many there are. */
  .pens {
    grid-area: pens;
    display: flex;
    flex-direction: column;
    min-height: 0;
  }
  trit-pen-choice {
    flex: 0 1 auto;
    min-height: 120px;
    overflow-y: auto;
    scrollbar-width: thin;
  }
  trit-mix {
    flex: none;
  }
  trit-switch-bar {
    grid-area: bar;
    padding-top: 10px;
    margin-top: 12px;
    border-top: 1px solid var(--trit-hairline);
  }
  .state {
    display: flex;
    flex-direction: column;
    align-items: flex-start;
    gap: 12px;
    padding: 4px 24px 16px var(--trit-margin, 120px);
    overflow-wrap: anywhere;
    background: linear-gradient(var(--trit-hairline), var(--trit-hairline)) no-repeat
      calc(var(--trit-margin, 120px) - 16px) 0 / 1px 100%;
  }
  .waiting:not(.preceded) .state {
    min-height: 100%;
  }
  /* A chat has no margin with names, nor has what stands below something else. */
  .chat .state,
  .preceded .state {
    padding-left: 2px;
    background: none;
  }
  .preceded .state {
    gap: 8px 16px;
    padding: 0 0 8px;
    margin-top: 8px;
  }
  .preceded .idle {
    flex-direction: row-reverse;
    align-items: center;
    justify-content: flex-end;
    font-size: 12px;
    line-height: 16px;
  }
  .preceded .idle button {
    flex: none;
  }
  .state > * {
    max-width: 560px;
  }
  .state h2 {
    margin: 0;
    font: 400 22px/30px var(--trit-serif);
  }
  .state p {
    margin: 0;
    color: var(--trit-muted);
  }
  .state ul {
    margin: 0;
    padding-left: 18px;
    color: var(--trit-muted);
  }
  .state.problem h2 {
    color: var(--trit-error);
  }
  .line {
    width: 100%;
    max-width: 520px;
    height: 2px;
    background: var(--trit-hairline);
  }
  .line i {
    display: block;
    height: 100%;
    width: calc(100% * var(--share));
    background: var(--ink-0);
  }
  form {
    grid-area: form;
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    gap: 8px;
    margin: 0;
    padding-top: 10px;
    border-top: 1px solid var(--trit-hairline);
  }
  textarea {
    height: 58px;
    padding: 6px 10px;
    font: 17px/22px var(--trit-serif);
    color: inherit;
    background: transparent;
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
    resize: none;
  }
  textarea:focus-visible {
    outline-offset: -1px;
  }
  .write {
    width: 92px;
    height: 36px;
  }
  .samples {
    grid-column: 1 / -1;
    display: flex;
    gap: 6px;
    height: 30px;
    overflow-x: auto;
    scrollbar-width: none;
    mask-image: linear-gradient(to left, transparent, #000 32px);
    padding: 2px;
    margin: -2px;
  }
  .samples button {
    flex: none;
    width: auto;
    padding: 1px 10px;
    font: italic 14px/22px var(--trit-serif);
    border-radius: 13px;
    height: 26px;
    white-space: nowrap;
    color: var(--ink);
    border-color: color-mix(in srgb, var(--ink) 35%, transparent);
  }
  .samples b {
    margin-right: 2px;
    font: 600 12px/22px var(--trit-sans);
  }
  .auto {
    grid-column: 1 / -1;
    display: flex;
    flex-wrap: wrap;
    gap: 2px 16px;
    align-items: center;
    min-height: 28px;
    font-size: 13px;
    line-height: 18px;
    color: var(--trit-muted);
  }
  .switch {
    display: flex;
    flex: none;
    gap: 8px;
    align-items: center;
    color: var(--trit-text);
    cursor: pointer;
  }
  .switch input {
    position: relative;
    flex: none;
    width: 30px;
    height: 18px;
    margin: 0;
    appearance: none;
    background: transparent;
    border: 1px solid var(--trit-muted);
    border-radius: 9px;
    cursor: inherit;
    transition: background 120ms;
  }
  .switch input::before {
    content: '';
    position: absolute;
    inset: 2px auto 2px 2px;
    width: 12px;
    background: var(--trit-muted);
    border-radius: 6px;
    transition: translate 120ms;
  }
  .switch input:checked {
    background: var(--trit-text);
    border-color: var(--trit-text);
  }
  .switch input:checked::before {
    background: var(--trit-paper);
    translate: 12px 0;
  }
  .notice-line,
  .problem-line {
    grid-column: 1 / -1;
  }
  .problem-line {
    color: var(--trit-error);
    overflow-wrap: anywhere;
  }
  @container switcher (max-width: 720px) {
    .grid {
      display: block;
      height: auto;
    }
    trit-manuscript,
    trit-chat {
      height: 320px;
      --trit-margin: 0px;
    }
    trit-chat {
      height: 420px;
    }
    /* Nothing streams there: it may take the room that it needs. */
    .waiting {
      min-height: 280px;
      overflow: visible;
      --trit-margin: 0px;
    }
    .state {
      background: none;
    }
    .state button {
      min-height: 44px;
    }
    .waiting.crowded {
      display: block;
    }
    .preceded .idle {
      flex-direction: column-reverse;
      align-items: stretch;
    }
    .pens {
      margin: 8px 0 12px;
      overflow: visible;
    }
    form {
      border: 0;
      padding: 0;
    }
    .write {
      height: 44px;
    }
    .switch {
      min-height: 44px;
    }
    .samples {
      height: 48px;
    }
    .samples button {
      height: 44px;
      border-radius: 22px;
    }
  }
`
