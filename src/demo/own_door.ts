/**
 * The door for files of the visitor's own: which base they are for, and where to drop them.
 *
 * @module
 */
import { html, nothing, render } from 'lit'
import type { ExpertSwitcher } from '../element/expert_switcher.ts'
import { defineBringYourOwn } from './bring_your_own.ts'
import { addressOfOwn, OWN_BASES } from './doors.ts'

/** Draws the door, above the switcher that the files become pens of. */
export function showOwn(place: HTMLElement, switcher: ExpertSwitcher): void {
  defineBringYourOwn()
  const known = OWN_BASES.some(({ model }) => model === switcher.model)
  const open = (model: string) => location.assign(addressOfOwn(model))
  const onSubmit = (event: Event) => {
    event.preventDefault()
    const model = new FormData(event.target as HTMLFormElement).get('address')
    if (typeof model === 'string' && model.trim() !== '') open(model.trim())
  }
  render(
    html`<h2>Bring your own LoRA or fine-tune</h2>
      <p>
        This page turns it into a small file, puts it on at once, and compares it with the original. Nothing is
        uploaded.
      </p>
      <form @submit=${onSubmit}>
        <label
          >It was made for
          <select
            @change=${(event: Event) => {
              const base = OWN_BASES[(event.target as HTMLSelectElement).selectedIndex]
              if (base !== undefined) open(base.model)
            }}
          >
            ${OWN_BASES.map(({ model, name }) => html`<option ?selected=${model === switcher.model}>${name}</option>`)}
            ${known ? nothing : html`<option selected>${switcher.model}</option>`}
          </select></label
        >
        <label
          >or another base
          <input name="address" placeholder="hf:owner/name, or an address" autocomplete="off" spellcheck="false"
        /></label>
        <button>Use that base</button>
      </form>
      <trit-bring-your-own .switcher=${switcher}></trit-bring-your-own>`,
    place,
  )
  place.hidden = false
  const zone = place.querySelector('trit-bring-your-own')!
  let seen = ''
  switcher.addEventListener('change', () => {
    const { status } = switcher.state
    if (status === seen) return
    seen = status
    zone.requestUpdate()
  })
}
