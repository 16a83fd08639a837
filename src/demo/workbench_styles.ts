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
  }
`
