import type { FloatInputDtype } from '../format/dtype.ts'
import { shaderConstants } from './shader_constants.ts'

/** The weights that a kernel variant works on. */
export type TargetDtype = FloatInputDtype

/** Modules that differ between the two: a branch on a constant is not free on every device. */
export const TARGET_MODULES = {
  float32: {
    target: 'target_f32',
    journal: 'journal_f32',
    displaced: 'displaced_f32',
    terms_tile: 'terms_tile_f32',
  },
  float16: {
    target: 'target_f16',
    journal: 'journal_f16',
    displaced: 'displaced_f16',
    terms_tile: 'terms_tile_f16',
  },
} as const

/** What differs again in a kernel that takes a list of jobs. */
export const LIST_MODULES = {
  jobs: 'job_list',
  weights_f32: 'weights_list_f32',
  weights_f16: 'weights_list_f16',
} as const

/** Elements in a word of a buffer or journal. */
export const PER_WORD: Readonly<Record<TargetDtype, number>> = {
  float32: shaderConstants(TARGET_MODULES.float32.target, ['PER_WORD']).PER_WORD,
  float16: shaderConstants(TARGET_MODULES.float16.target, ['PER_WORD']).PER_WORD,
}
