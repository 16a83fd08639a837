import { css } from 'lit'

/** Inks besides the pencil; experts take them in the order of the registry. */
export const INKS = 9

/**
 * Colours, type and spaces shared by all parts. Ink 0 is the pencil of the base; every ink has a contrast of
 * at least 6 : 1 with the paper of its scheme. A page restyles the element by setting these on it.
 */
export const theme = css`
  :host {
    color-scheme: light dark;
    --trit-paper: light-dark(#fbfaf7, #14161a);
    --trit-text: light-dark(#1c1e22, #e8e6e1);
    --trit-muted: light-dark(#5b6068, #a4abb5);
    --trit-hairline: light-dark(#dedbd2, #2f333a);
    --trit-wash: light-dark(#f3f1ea, #1b1e23);
    --trit-error: light-dark(#a61b1b, #ff9d96);
    --trit-focus: light-dark(#1d4ed8, #8ab4ff);
    --trit-sans: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif;
    --trit-serif: 'Iowan Old Style', 'Palatino Linotype', Palatino, Charter, 'Noto Serif', Georgia, serif;
    --trit-radius: 6px;
    --trit-space: 8px;
    --ink-0: light-dark(#5b6068, #a4abb5);
    --ink-1: light-dark(#1d4ed8, #8ab4ff);
    --ink-2: light-dark(#b4232f, #ff8f94);
    --ink-3: light-dark(#1a6b3c, #6fd39a);
    --ink-4: light-dark(#6d28d9, #c4a6ff);
    --ink-5: light-dark(#0f6674, #5fd0dd);
    --ink-6: light-dark(#a81f6d, #ff94c9);
    --ink-7: light-dark(#5d6300, #cdd25a);
    --ink-8: light-dark(#7a4a2b, #e0ab85);
    --ink-9: light-dark(#8a5300, #f2b45a);
  }
`

/** For the host of every part. The parts inherit the properties above from the element that contains them. */
export const base = css`
  :host {
    display: block;
    font-family: var(--trit-sans);
    font-size: 14px;
    line-height: 20px;
    color: var(--trit-text);
  }
  *,
  *::before,
  *::after {
    box-sizing: border-box;
  }
  [data-ink='0'] { --ink: var(--ink-0); }
  [data-ink='1'] { --ink: var(--ink-1); }
  [data-ink='2'] { --ink: var(--ink-2); }
  [data-ink='3'] { --ink: var(--ink-3); }
  [data-ink='4'] { --ink: var(--ink-4); }
  [data-ink='5'] { --ink: var(--ink-5); }
  [data-ink='6'] { --ink: var(--ink-6); }
  [data-ink='7'] { --ink: var(--ink-7); }
  [data-ink='8'] { --ink: var(--ink-8); }
  [data-ink='9'] { --ink: var(--ink-9); }
  .hidden {
    position: absolute;
    width: 1px;
    height: 1px;
    margin: -1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
  .figure {
    font-variant-numeric: tabular-nums;
  }
  button {
    font: inherit;
    color: inherit;
    background: none;
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
    padding: 5px 14px;
    cursor: pointer;
  }
  button:hover:not(:disabled) {
    border-color: var(--trit-muted);
  }
  button:disabled {
    cursor: default;
    color: var(--trit-muted);
  }
  button.primary {
    background: var(--trit-text);
    border-color: var(--trit-text);
    color: var(--trit-paper);
  }
  button.primary:disabled {
    background: none;
    border-color: var(--trit-hairline);
    color: var(--trit-muted);
  }
  :focus-visible {
    outline: 2px solid var(--trit-focus);
    outline-offset: 2px;
  }
  @media (prefers-reduced-motion: reduce) {
    *,
    *::before,
    *::after {
      transition: none !important;
      animation: none !important;
    }
  }
`
