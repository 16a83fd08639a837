/**
 * Registers `<expert-switcher>` and its parts.
 *
 * @module element
 */
import { ExpertLoader } from '../loader/index.ts'
import { defineElements } from './elements.ts'
import { ExpertSwitcher } from './expert_switcher.ts'

/** The same function for all elements: those with the same model share the loader that it makes. */
ExpertSwitcher.createLoader = (options) => ExpertLoader.create(options)

defineElements()

export type { FetchProgress, GeneratedToken, ModelInfo } from '../loader/index.ts'
export type { ExpertSwitcherEvents, SwitcherMode } from './expert_switcher.ts'
export type { Pen, WeightedId, WeightedPen } from './pens.ts'
export type { MeasuredSwitch, SwitcherEvents } from './switcher_state.ts'
export { ExpertSwitcher }
