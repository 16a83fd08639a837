/**
 * What users are told of experts and switches: plain data, the same on every thread.
 *
 * @module
 */
import type { GenerationSettings } from '../source/generation_settings.ts'
import type { BaseMatch } from './base_check.ts'
import type { BindingChoice } from './expert_bindings.ts'

export type { BaseMatch } from './base_check.ts'
export type { Binding, BindingChoice } from './expert_bindings.ts'

export interface AdapterInfo {
  vendor: string
  architecture: string
  device: string
  description: string
  /** A CPU pretending to be a GPU: figures taken on it say nothing about one. */
  software: boolean
}

/** Where an expert's bytes came from and what they cost, in ms and bytes. */
export interface LoadTimings {
  fetch: number
  verify: number
  upload: number
  networkBytes: number
  cacheBytes: number
  requests: number
}

export interface ExpertInfo {
  id: string
  label: string
  description?: string
  prompt?: string
  /** What chats with it begin with: part of the skill. */
  system?: string
  /** How text is generated with it where a call does not say. */
  generation?: GenerationSettings
  licence?: string
  method: 'full' | 'lora' | 'ia3' | 'prompt'
  /** Of activated LoRA: it acts from the last occurrence of these tokens in the prompt on. */
  invocation?: readonly number[]
  /** Size of the file. */
  bytes: number
  rootHash: string
  weights: number
  kept: number
  density?: number
  alpha?: number
  /** VRAM that it holds while resident. */
  residentBytes: number
  /** What shows that it was made for this base. */
  baseMatch: BaseMatch
  timings: LoadTimings
}

export interface ActiveExpert {
  /** `ExpertInfo.id` */
  expert: string
  weight: number
  /** What the weight is multiplied with in each of a number of groups of layers, from the first layer to the last. */
  groups?: readonly number[]
  /** How it meets the base, where that differs from what its load asked for. */
  binding?: BindingChoice
}

/** How an active expert meets the base: its tensors by binding. */
export interface BoundExpert extends ActiveExpert {
  tensors: { merge: number; side: number; input: number }
  /** What decided between `merge` and `input`, where that was left to `auto`. */
  why?: string
  /** VRAM of its 2-bit weights. */
  sideBytes: number
}

/** A set of active experts. `set` counts up with every switch; 0 is the untouched base. */
export interface ActiveSet {
  set: number
  experts: readonly ActiveExpert[]
}

/**
 * What a switch took, in ms. Fetch, verify and upload are 0 for an expert that was in VRAM already. `apply` ends when the device
 * has accepted the switch, from where on all that is queued runs on the new set; with `timed`, when the GPU has run it.
 */
export interface SwitchReport extends ActiveSet {
  phases: { fetch: number; verify: number; upload: number; apply: number }
  /** Sessions that had to be created in the switch; 0 where they were made when the experts were loaded. */
  sessions: number
  total: number
  /** The GPU's part of `apply`, with `timed` and where the device has timestamps. */
  gpuMs?: number
}

export interface EngineStats {
  /**
   * `own`: the blocks that quantized weights came as, kept beside the floats that they became. `journal`: what sparse changes
   * displaced. `copies`: weights of the base that came as floats, while an expert changes them as a whole. `beside`: 2-bit
   * weights and inputs of graphs.
   */
  vram: {
    base: number
    own: number
    experts: number
    journal: number
    copies: number
    beside: number
    total: number
  }
  /** What calls without experts of their own run with. */
  active: readonly BoundExpert[]
  counts: { uploads: number; evictions: number; switches: number; cpuDecodes: number }
  /** Bytes written to the GPU for experts since the start. */
  expertBytesUploaded: number
  lastSwitch?: SwitchReport
}
