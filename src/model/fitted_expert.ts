/**
 * An expert's table as a base sees it: its targets under the base's names, once it is known that the expert was made
 * for this base.
 *
 * @module
 */
import { SKETCH_VALUES, type TritTable } from '../format/index.ts'
import type { WeightStore } from '../gpu/index.ts'
import { type BaseIdentity, type BaseMatch, checkBase, unusedTargets } from './base_check.ts'
import type { SiteIndex } from './site_index.ts'
import { renameTargets, type SketchReader } from './target_names.ts'

export interface FittedExpert {
  table: TritTable
  baseMatch: BaseMatch
  /** Names of the base by the expert's, where they differ. */
  renamed: ReadonlyMap<string, string>
  /** Targets that no graph uses. */
  unused: ReadonlySet<string>
}

/**
 * @param name - of the expert, for messages
 * @throws {TritswapError} as `checkBase`
 */
export async function fitExpert(
  table: TritTable,
  name: string,
  base: BaseIdentity,
  read: SketchReader,
  sites: SiteIndex,
): Promise<FittedExpert> {
  const found = await renameTargets(table, base, read, (target) => sites.sharedBy(target))
  const baseMatch = checkBase(table, name, found.base)
  const tensors = table.tensors.map((tensor) => ({
    ...tensor,
    target: found.renamed.get(tensor.target) ?? tensor.target,
  }))
  const fitted = { ...table, tensors }
  return { table: fitted, baseMatch, renamed: found.renamed, unused: unusedTargets(fitted, base) }
}

/**
 * Sketch values of a base that no expert has changed; NaN for weights that stay integers in their graph, of which only
 * the sketch that came with the graph is known.
 */
export async function readSketches(
  weights: Pick<WeightStore, 'knows' | 'sketchValues'>,
  tensors: readonly string[],
  seeds: readonly string[],
): Promise<Float32Array> {
  const seen = tensors.flatMap((name, i) => (weights.knows(name) ? [i] : []))
  const read = await weights.sketchValues(
    seen.map((i) => tensors[i]),
    seen.map((i) => seeds[i]),
  )
  const values = new Float32Array(tensors.length * SKETCH_VALUES).fill(Number.NaN)
  for (const [at, i] of seen.entries())
    values.set(read.subarray(at * SKETCH_VALUES, (at + 1) * SKETCH_VALUES), i * SKETCH_VALUES)
  return values
}
