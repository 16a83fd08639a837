import { css, html, LitElement, nothing } from 'lit'
import { keyed } from 'lit/directives/keyed.js'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { base, theme } from '../element/theme.ts'
import { formatBytes } from '../element/units.ts'
import { readHead } from '../format/head.ts'
import { blobSource } from '../source/memory.ts'
import type { BroughtWeights } from './compression_job.ts'
import { type BroughtFile, filesOfDrop, filesOfInput, recognise } from './dropped_files.ts'
import { Workbench } from './workbench.ts'

/** Registers it and its parts. */
export function defineBringYourOwn(): void {
  if (customElements.get('trit-bring-your-own') !== undefined) return
  customElements.define('trit-workbench', Workbench)
  customElements.define('trit-bring-your-own', BringYourOwn)
}

/**
 * Makes pens of files that the visitor brings: of an expert as it is, of an adapter or a fine-tuning by compressing it.
 * The bytes go to the workers of this page and nowhere else.
 */
export class BringYourOwn extends LitElement {
  static override properties = {
    switcher: { attribute: false },
    _over: { state: true },
    _message: { state: true },
    _problem: { state: true },
    _weights: { state: true },
  }

  static override styles = [
    theme,
    base,
    css`
      .zone {
        display: flex;
        flex-direction: column;
        gap: 12px;
        align-items: center;
        padding: 24px;
        text-align: center;
        border: 1px dashed var(--trit-muted);
        border-radius: var(--trit-radius);
      }
      .zone.over {
        background: var(--trit-wash);
      }
      .choices {
        display: flex;
        flex-wrap: wrap;
        gap: 8px;
        justify-content: center;
      }
      .choices label {
        padding: 5px 14px;
        border: 1px solid var(--trit-hairline);
        border-radius: var(--trit-radius);
        cursor: pointer;
      }
      .choices label:focus-within {
        outline: 2px solid var(--trit-focus);
        outline-offset: 2px;
      }
      .choices label.off {
        color: var(--trit-muted);
        cursor: default;
      }
      @media (max-width: 767px) {
        .choices label {
          min-height: 44px;
          padding: 11px 14px;
        }
      }
      p {
        min-height: 20px;
        margin: 8px 0 0;
        overflow-wrap: anywhere;
      }
      .problem {
        color: var(--trit-error);
      }
    `,
  ]

  declare switcher: ExpertSwitcher
  declare _over: boolean
  declare _message: string
  declare _problem: string
  declare _weights: BroughtWeights | undefined
  #brought = 0

  constructor() {
    super()
    this._over = false
    this._message = this._problem = ''
  }

  override connectedCallback(): void {
    super.connectedCallback()
    // Else the browser would replace the page with a file that is dropped beside the zone.
    window.addEventListener('dragover', this.#onDrag)
    window.addEventListener('drop', this.#onDrop)
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    window.removeEventListener('dragover', this.#onDrag)
    window.removeEventListener('drop', this.#onDrop)
  }

  override render() {
    const { status } = this.switcher.state
    const ready = status === 'ready' || status === 'idle' || status === 'loading'
    return html`<div
        class="zone ${this._over ? 'over' : ''}"
        @dragenter=${() => {
          this._over = true
        }}
        @dragleave=${() => {
          this._over = false
        }}
      >
        ${
          ready
            ? html`<span
                >Drop a <b>.trit</b> file, the folder of a <b>peft adapter</b>, or the <b>safetensors</b> of a model
                fine-tuned from this base</span
              >`
            : 'The base is not loaded, so there is nothing to put a file on: see the message above'
        }
        <div class="choices">
          ${this.#choice('Choose files', ready, false)} ${this.#choice('Choose a folder', ready, true)}
        </div>
      </div>
      <p role="status">${this._message}</p>
      ${this._problem === '' ? nothing : html`<p class="problem" role="alert">${this._problem}</p>`}
      ${
        this._weights === undefined
          ? nothing
          : keyed(
              this._weights,
              html`<trit-workbench
              .switcher=${this.switcher}
              .brought=${this._weights}
              @close=${() => {
                this._weights = undefined
              }}
            ></trit-workbench>`,
            )
      }`
  }

  #choice(text: string, ready: boolean, folder: boolean) {
    return html`<label class=${ready ? '' : 'off'}
      >${text}<input
        class="hidden"
        type="file"
        multiple
        ?webkitdirectory=${folder}
        ?disabled=${!ready}
        @change=${(event: Event) => {
          const input = event.target as HTMLInputElement
          const files = filesOfInput(input)
          // So that choosing the same file again fires `change`.
          input.value = ''
          void this.#take(files)
        }}
    /></label>`
  }

  #onDrag = (event: DragEvent): void => {
    if (event.dataTransfer?.types.includes('Files')) event.preventDefault()
  }

  #onDrop = (event: DragEvent): void => {
    const transfer = event.dataTransfer
    this._over = false
    if (!transfer?.types.includes('Files')) return
    event.preventDefault()
    void filesOfDrop(transfer).then((files) => this.#take(files))
  }

  async #take(files: readonly BroughtFile[]): Promise<void> {
    if (files.length === 0) return
    this._message = this._problem = ''
    this._weights = undefined
    try {
      const brought = recognise(files)
      if (!(await this.#base())) return
      this._message = ''
      if (brought.kind === 'expert') await this.#takeExpert(brought.file)
      else this._weights = brought
    } catch (error) {
      this._problem = (error as Error).message
    }
  }

  /** Loads the base if need be. @returns whether it is there; if not, why not is said beside it */
  async #base(): Promise<boolean> {
    const { state } = this.switcher
    if (state.status !== 'ready') {
      this._message = 'Loading the base first.'
      await this.switcher.load()
    }
    if (state.status === 'ready') return true
    this._message = 'The base could not be loaded: see the message above. Drop the files again once it is.'
    return false
  }

  async #takeExpert(file: File): Promise<void> {
    const { state } = this.switcher
    const { rootHash, table } = await readHead(blobSource(file))
    const { label = file.name.replace(/\.trit$/, ''), description, prompt, licence } = table
    const { density, alpha } = table.compression
    this.#brought += 1
    const pen = state.addPen({
      id: `own-${this.#brought}`,
      label,
      description: description ?? `From ${file.name}`,
      prompt,
      licence,
      density,
      alpha,
      file,
      rootHash,
      bytes: file.size,
    })
    await state.choose(pen)
    if (pen.error === undefined) {
      this._message = `${label}, ${formatBytes(file.size)}, is in hand`
      return
    }
    // The problem is shown here, where the file was dropped: there is no pen for a file that cannot be used.
    this._problem = pen.error
    state.removePen(pen)
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'trit-bring-your-own': BringYourOwn
    'trit-workbench': Workbench
  }
}
