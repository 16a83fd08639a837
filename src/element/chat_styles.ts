import { css } from 'lit'
import { foundStyles } from './found_line.ts'

/** Questions on the right, answers on the left under the names of who wrote them. */
export const chatStyles = css`
  ${foundStyles}
  :host {
    display: flex;
    flex-direction: column;
    min-height: 0;
  }
  .sheet {
    position: relative;
    flex: 1;
    min-height: 0;
    overflow-y: auto;
    overscroll-behavior: contain;
    padding: 4px 16px 16px 2px;
    scrollbar-gutter: stable;
    scrollbar-width: thin;
  }
  .text {
    margin: 0;
    font: 18px/28px var(--trit-serif);
    white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  .empty {
    margin: 0;
    font: 19px/31px var(--trit-serif);
    color: var(--trit-muted);
  }
  .question {
    width: fit-content;
    max-width: min(60ch, 88%);
    margin: 16px 0 0 auto;
    padding: 6px 14px;
    background: var(--trit-wash);
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
  }
  .question:first-of-type {
    margin-top: 0;
  }
  .question .text {
    font: 16px/24px var(--trit-sans);
  }
  .answer {
    max-width: 72ch;
    margin-top: 12px;
    padding-left: 14px;
    border-left: 2px solid var(--ink);
  }
  h3 {
    margin: 0;
    font: 600 13px/20px var(--trit-sans);
    color: var(--ink);
  }
  .nib {
    width: 7px;
    height: 12px;
    margin-right: 6px;
    vertical-align: -1px;
    fill: var(--ink);
  }
  /* Room for one line, so that nothing moves when the first token comes. */
  .answer .text {
    min-height: 28px;
  }
  .run {
    color: var(--ink);
  }
  .blend {
    text-decoration: underline;
    text-decoration-color: var(--ink-under);
    text-decoration-thickness: 2px;
    text-underline-offset: 4px;
  }
  .mark {
    display: inline-block;
    padding: 0 6px;
    margin: 0 4px;
    font: 600 11px/18px var(--trit-sans);
    color: var(--ink);
    border: 1px solid color-mix(in srgb, var(--ink) 40%, transparent);
    border-radius: 9px;
    vertical-align: 2px;
    user-select: none;
  }
  .caret {
    display: inline-block;
    width: 2px;
    height: 20px;
    margin-left: 1px;
    vertical-align: -3px;
    background: var(--ink);
    animation: blink 1s steps(2) infinite;
  }
  @keyframes blink {
    50% {
      opacity: 0;
    }
  }
  .problem {
    margin: 4px 0 0;
    color: var(--trit-error);
    overflow-wrap: anywhere;
  }
  .actions {
    display: flex;
    flex-wrap: wrap;
    gap: 6px;
    align-items: center;
    min-height: 26px;
    margin-top: 6px;
  }
  .why {
    font-size: 12px;
    color: var(--trit-muted);
  }
  .actions button,
  .detail button {
    padding: 2px 10px;
    font-size: 12px;
  }
  .break {
    display: flex;
    gap: 12px;
    align-items: center;
    margin: 24px 0 0;
    font-size: 12px;
    color: var(--trit-muted);
  }
  .break::before,
  .break::after {
    content: '';
    flex: 1;
    height: 1px;
    background: var(--trit-hairline);
  }
  .detail {
    display: flex;
    gap: 12px;
    align-items: center;
    min-height: 32px;
    padding: 4px 2px;
    font-size: 12px;
    line-height: 16px;
    color: var(--trit-muted);
  }
  .detail span {
    flex: 1;
  }
  .detail button {
    flex: none;
    color: var(--trit-text);
  }
  @container switcher (max-width: 720px) {
    .sheet {
      padding-right: 4px;
    }
    .text {
      font-size: 17px;
      line-height: 26px;
    }
    .actions button,
    .detail button {
      min-width: 44px;
      min-height: 44px;
      padding: 2px 14px;
      font-size: 13px;
    }
  }
`
