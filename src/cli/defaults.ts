/**
 * What the command line does unless it is told otherwise; how experts are made is in `compress/defaults.ts`, which the page
 * reads too. Help texts quote these.
 *
 * @module
 */
import { REPORT_WINDOWS } from '../model/score.ts'

/** The base that `eval` and `sweep` measure on: the demo's, where the repository is the working folder. */
export const EVAL_BASE = 'public/models/demo'
export const EVAL_REGISTRY = 'public/experts/experts.json'

/** Windows of a text: what `sweep` chooses on comes after what `eval` reports on. */
export const EVAL_WINDOWS = { from: 0, count: REPORT_WINDOWS }
export const SWEEP_WINDOWS = { from: REPORT_WINDOWS, count: 8 }

/** Largest difference from torch, over the range of the outputs, that `check` calls right: for f32 graphs. */
export const CHECK_TOLERANCE = 1e-3

/** Norm of what a fine-tuning changed over that of the weights, from which `compress` says that it is large. */
export const LARGE_CHANGE = 0.1
