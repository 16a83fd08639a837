/**
 * Which checkpoint tensor each parameter of a graph is, and how its elements lie in the initializer. docs/NAMES.md
 * lists the rules with examples.
 *
 * @module
 */
import { resolveByContent } from './by_content.ts'
import { resolveByName } from './by_name.ts'
import type { Checkpoint } from './checkpoint.ts'
import type { LocatedParameter, Resolution } from './resolution.ts'

/** Models whose norms multiply with 1 + weight: an exporter that folds constants leaves the sum in the graph. */
const UNIT_NORMS = /^(gemma|gemma2|gemma3|gemma3_text|paligemma|recurrent_gemma|qwen3_next|nemotron)$/

/**
 * Resolves the parameters of all graphs of one model together, so that a tensor shared between graphs (or tied
 * inside one) gets one name.
 */
export async function resolveParameters(
  located: readonly LocatedParameter[],
  { checkpoint, modelType = '' }: { checkpoint?: Checkpoint; modelType?: string } = {},
): Promise<Resolution> {
  return checkpoint === undefined
    ? resolveByName(located, UNIT_NORMS.test(modelType) ? 1 : undefined)
    : resolveByContent(located, checkpoint)
}
