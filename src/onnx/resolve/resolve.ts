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

/**
 * Resolves the parameters of all graphs of one model together, so that a tensor shared between graphs (or tied
 * inside one) gets one name.
 */
export async function resolveParameters(
  located: readonly LocatedParameter[],
  { checkpoint, modelType = '' }: { checkpoint?: Checkpoint; modelType?: string } = {},
): Promise<Resolution> {
  return checkpoint === undefined ? resolveByName(located, modelType) : resolveByContent(located, checkpoint)
}
