import { css } from 'lit'

/** Voices beside each other, below each other on narrow pages. What is not written yet keeps its room. */
export const recordedStyles = css`
  /* Room for what comes with the recording. */
  :host {
    min-height: 356px;
  }
  .about {
    display: flex;
    flex-wrap: wrap;
    gap: 4px 8px;
    align-items: center;
    margin: 0;
    font-size: 12px;
    color: var(--trit-muted);
  }
  .badge {
    padding: 0 8px;
    border: 1px solid var(--trit-muted);
    border-radius: 10px;
  }
  .replay {
    margin-left: auto;
    padding: 1px 12px;
  }
  h2 {
    margin: 4px 0 0;
    font: 400 22px/30px var(--trit-serif);
  }
  .question {
    width: fit-content;
    max-width: 100%;
    margin: 8px 0 0;
    padding: 6px 14px;
    white-space: pre-wrap;
    overflow-wrap: anywhere;
    background: var(--trit-wash);
    border: 1px solid var(--trit-hairline);
    border-radius: var(--trit-radius);
  }
  .voices {
    display: grid;
    grid-template-columns: repeat(var(--voices), minmax(0, 1fr));
    gap: 8px 20px;
    margin-top: 8px;
  }
  article {
    display: flex;
    flex-direction: column;
    padding-top: 6px;
    border-top: 2px solid var(--ink);
  }
  h3 {
    margin: 0;
    font: 600 14px/20px var(--trit-sans);
    color: var(--ink);
  }
  .nib {
    width: 7px;
    height: 12px;
    margin-right: 6px;
    vertical-align: -1px;
    fill: var(--ink);
  }
  .file {
    margin: 0;
    font-size: 12px;
    line-height: 16px;
    color: var(--trit-muted);
  }
  .text {
    flex: 1;
    margin: 4px 0 8px;
    font: 16px/23px var(--trit-serif);
    white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  .ink {
    color: var(--ink);
  }
  .rest {
    visibility: hidden;
  }
  .live {
    align-self: flex-start;
    padding: 3px 12px;
    color: var(--ink);
    border-color: color-mix(in srgb, var(--ink) 45%, transparent);
  }
  .cost {
    margin: 8px 0 0;
  }
  @container switcher (max-width: 720px) {
    .voices {
      grid-template-columns: minmax(0, 1fr);
    }
    article {
      display: grid;
      grid-template-columns: minmax(0, 1fr) auto;
      gap: 0 8px;
    }
    .text {
      grid-row: 2;
      grid-column: 1 / -1;
      margin-bottom: 0;
    }
    .live,
    .replay {
      min-width: 44px;
      min-height: 44px;
      padding: 3px 16px;
    }
    .about span {
      flex: 1 1 160px;
    }
  }
`
