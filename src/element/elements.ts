import { Chat } from './chat.ts'
import { ExpertSwitcher } from './expert_switcher.ts'
import { Manuscript } from './manuscript.ts'
import { Mix } from './mix.ts'
import { PenChoice } from './pen_choice.ts'
import { SwitchBar } from './switch_bar.ts'

const elements = {
  'trit-chat': Chat,
  'trit-manuscript': Manuscript,
  'trit-mix': Mix,
  'trit-pen-choice': PenChoice,
  'trit-switch-bar': SwitchBar,
  'expert-switcher': ExpertSwitcher,
}

/** Registers `<expert-switcher>` and its parts. If two bundles on a page bring the element, the first one registers it. */
export function defineElements(): void {
  for (const [name, element] of Object.entries(elements)) {
    if (customElements.get(name) === undefined) customElements.define(name, element)
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'trit-chat': Chat
    'trit-manuscript': Manuscript
    'trit-mix': Mix
    'trit-pen-choice': PenChoice
    'trit-switch-bar': SwitchBar
  }
}
