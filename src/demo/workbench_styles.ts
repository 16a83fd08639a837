import { css } from 'lit'

/** Sliders on the left, figures on the right, below each other on narrow pages. */
export const workbenchStyles = css`
  section {
    margin-top: 16px;
    padding-top: 12px;
    border-top: 2px solid var(--ink);
  }
  h3 {
    display: flex;
    gap: 12px;
    align-items: baseline;
    margin: 0;
    font-size: 16px;
    color: var(--ink);
    overflow-wrap: anywhere;
  }
  h3 label {
    font-size: 13px;
    font-weight: 400;
    color: var(--trit-muted);
  }
  .name {
    flex: 0 1 320px;
    min-width: 0;
    padding: 3px 8px;
    font: 600 16px/22px var(--trit-sans);
    color: inherit;
    background: transparent;
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
  }
  .compare {
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    gap: 4px 8px;
    align-items: start;
    margin-top: 12px;
  }
  .compare label {
    grid-column: 1 / -1;
    color: var(--trit-muted);
  }
  .compare textarea {
    padding: 6px 10px;
    font: inherit;
    color: inherit;
    background: transparent;
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
    resize: vertical;
  }
  .answers {
    width: 100%;
    margin-top: 8px;
    border-collapse: collapse;
    table-layout: fixed;
  }
  .answers th,
  .answers td {
    padding: 4px 12px 4px 0;
    text-align: left;
    vertical-align: top;
    font-weight: 400;
    overflow-wrap: anywhere;
    white-space: pre-wrap;
    border-bottom: 1px solid var(--trit-hairline);
  }
  .answers thead th {
    color: var(--trit-muted);
  }
  h3 button {
    margin-left: auto;
    font-size: 12px;
    font-weight: 400;
    color: var(--trit-text);
  }
  p {
    margin: 4px 0 0;
    color: var(--trit-muted);
    overflow-wrap: anywhere;
  }
  .bench {
    display: grid;
    grid-template-columns: minmax(0, 1fr) minmax(0, 1fr);
    gap: 12px 48px;
    margin-top: 12px;
  }
  .sliders {
    display: grid;
    grid-template-columns: auto minmax(0, 1fr) 64px;
    gap: 8px 12px;
    align-items: center;
    align-content: start;
  }
  input[type='range'] {
    width: 100%;
    margin: 0;
    accent-color: var(--ink);
  }
  output {
    text-align: right;
  }
  .bar {
    grid-column: 1 / -1;
    height: 3px;
    background: var(--trit-hairline);
  }
  .bar i {
    display: block;
    width: calc(100% * var(--share));
    height: 100%;
    background: var(--ink);
  }
  dl {
    display: grid;
    grid-template-columns: auto minmax(0, 1fr);
    gap: 4px 16px;
    margin: 0;
  }
  dt {
    color: var(--trit-muted);
  }
  dd {
    margin: 0;
  }
  dd span {
    color: var(--trit-muted);
  }
  .actions {
    display: flex;
    flex-wrap: wrap;
    gap: 8px;
    margin-top: 12px;
  }
  .problem {
    color: var(--trit-error);
  }
  @media (max-width: 767px) {
    .bench {
      grid-template-columns: minmax(0, 1fr);
    }
    button,
    input {
      min-height: 44px;
    }
  }
`
