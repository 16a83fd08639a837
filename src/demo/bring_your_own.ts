import { css, html, LitElement, nothing } from 'lit'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import type { Pen } from '../element/switcher_state.ts'
import { base, theme } from '../element/theme.ts'
import { formatBytes } from '../element/units.ts'
import { readHead } from '../format/head.ts'
import { blobSource } from '../source/memory.ts'

/** Experts from the visitor's own disk become pens. Their bytes go to the engine of this page and nowhere else. */
export class BringYourOwn extends LitElement {
  static override properties = {
    switcher: { attribute: false },
    _over: { state: true },
    _message: { state: true },
    _problem: { state: true },
  }

  static override styles = [
    theme,
    base,
    css`
      label {
        display: block;
        padding: 24px;
        text-align: center;
        border: 1px dashed var(--trit-muted);
        border-radius: var(--trit-radius);
      }
      label.over {
        background: var(--trit-wash);
      }
      input {
        display: block;
        max-width: 100%;
        margin: 12px auto 0;
        font: inherit;
        color: inherit;
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
  #brought = 0

  constructor() {
    super()
    this._over = false
    this._message = this._problem = ''
  }

  override render() {
    const ready = this.switcher.state.status === 'ready'
    return html`<label
        class=${this._over ? 'over' : ''}
        @dragover=${(event: DragEvent) => {
          event.preventDefault()
          this._over = true
        }}
        @dragleave=${() => {
          this._over = false
        }}
        @drop=${(event: DragEvent) => {
          event.preventDefault()
          this._over = false
          if (ready) void this.#take(event.dataTransfer?.files)
        }}
        >${ready ? 'Drop a .trit file made for this base here, or choose it' : 'The base must be loaded first'}
        <input
          type="file"
          accept=".trit"
          ?disabled=${!ready}
          @change=${(event: Event) => {
            const input = event.target as HTMLInputElement
            void this.#take(input.files).then(() => {
              // The same file again is a choice, too.
              input.value = ''
            })
          }}
      /></label>
      <p role="status">${this._message}</p>
      ${this._problem === '' ? nothing : html`<p class="problem" role="alert">${this._problem}</p>`}`
  }

  async #take(files: FileList | null | undefined): Promise<void> {
    const [file] = files ?? []
    if (file === undefined) return
    const { state } = this.switcher
    this._message = this._problem = ''
    let pen: Pen | undefined
    try {
      const { rootHash, table } = await readHead(blobSource(file))
      const { label = file.name.replace(/\.trit$/, ''), description, prompt, licence } = table
      this.#brought += 1
      pen = state.addPen({
        id: `own-${this.#brought}`,
        label,
        description: description ?? `From ${file.name}`,
        prompt,
        licence,
        file,
        rootHash,
        bytes: file.size,
      })
      await state.choose(pen)
      if (pen.error === undefined) this._message = `${label}, ${formatBytes(file.size)}, is in hand`
      else this._problem = pen.error
    } catch (error) {
      this._problem = (error as Error).message
    }
    // What cannot be used is told here, where it was dropped, and is no pen.
    if (pen !== undefined && this._problem !== '') state.removePen(pen)
  }
}
