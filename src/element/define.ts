/**
 * Registers `<expert-switcher>` and its parts.
 *
 * @module element
 */
import { ExpertLoader } from '../loader/index.ts'
import { ExpertSwitcher } from './expert_switcher.ts'
import { Manuscript } from './manuscript.ts'
import { Mix } from './mix.ts'
import { PenChoice } from './pen_choice.ts'
import { SwitchBar } from './switch_bar.ts'

/** The same function for all elements: those with the same model share the loader that it makes. */
ExpertSwitcher.createLoader = (options) => ExpertLoader.create(options)

const elements = {
  'trit-manuscript': Manuscript,
  'trit-mix': Mix,
  'trit-pen-choice': PenChoice,
  'trit-switch-bar': SwitchBar,
  'expert-switcher': ExpertSwitcher,
}

for (const [name, element] of Object.entries(elements)) {
  // If two bundles on a page bring the element, the first one registers it.
  if (customElements.get(name) === undefined) customElements.define(name, element)
}

declare global {
  interface HTMLElementTagNameMap {
    'expert-switcher': ExpertSwitcher
    'trit-manuscript': Manuscript
    'trit-mix': Mix
    'trit-pen-choice': PenChoice
    'trit-switch-bar': SwitchBar
  }
}

export type { ExpertSwitcherEvents } from './expert_switcher.ts'
export type { Pen, WeightedId, WeightedPen } from './pens.ts'
export type { MeasuredSwitch, SwitcherEvents } from './switcher_state.ts'
export { ExpertSwitcher }
