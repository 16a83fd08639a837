/**
 * An expert's table as a base sees it: its targets under the base's names, once it is known that the expert was made
 * for this base.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { isCache, virtualTensorOf } from '../format/contributions.ts'
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
 * @throws {TritswapError} as `checkBase`, and `unsupported` for virtual tokens that the graphs have no place for
 */
export async function fitExpert(
  table: TritTable,
  name: string,
  base: BaseIdentity,
  read: SketchReader,
  sites: SiteIndex,
): Promise<FittedExpert> {
  const lookup = lookupOf(table, name, base, sites)
  const found = await renameTargets(table, lookup.base, read, (target) => sites.sharedBy(target))
  const baseMatch = checkBase(table, name, found.base)
  const tensors = table.tensors.map((tensor) => ({
    ...tensor,
    target: lookup.renamed.get(tensor.target) ?? found.renamed.get(tensor.target) ?? tensor.target,
  }))
  const fitted = { ...table, tensors }
  const renamed = new Map([...found.renamed, ...lookup.renamed])
  return { table: fitted, baseMatch, renamed, unused: unusedTargets(fitted, base) }
}

/**
 * The embedding that virtual tokens stand in for, which adapters do not name, and the base as they call it.
 * @throws {TritswapError} `unsupported` for a model that does not look its prompt up in one embedding
 */
function lookupOf(
  { tensors }: TritTable,
  name: string,
  base: BaseIdentity,
  { promptTargets, caches }: SiteIndex,
): { base: BaseIdentity; renamed: ReadonlyMap<string, string> } {
  const virtual = virtualTensorOf(tensors)
  if (virtual === undefined) return { base, renamed: new Map() }
  if (isCache(virtual)) {
    checkCaches(tensors, name, base, caches)
    return { base: { ...base, shapes: new Map([...base.shapes, ...caches]) }, renamed: new Map() }
  }
  const [target, ...others] = promptTargets
  const shape = target === undefined ? undefined : base.shapes.get(target)
  if (shape === undefined || others.length > 0) {
    throw new TritswapError(
      'unsupported',
      `Cannot use ${name} on ${base.name}: its virtual tokens stand in for what input_ids are looked up in, expected one embedding, found ${promptTargets.length}`,
      { fields: { expert: name, base: base.name, found: promptTargets } },
    )
  }
  return {
    base: { ...base, shapes: new Map(base.shapes).set(virtual.target, shape) },
    renamed: new Map([[virtual.target, target]]),
  }
}

/**
 * Keys and values go by the names of a graph's inputs, which are the same for all exporters that have them.
 * @throws {TritswapError} `unsupported` for graphs that take none, `base` for those of other layers
 */
function checkCaches(
  tensors: TritTable['tensors'],
  expert: string,
  { name }: BaseIdentity,
  caches: SiteIndex['caches'],
): void {
  if (caches.size === 0) {
    throw new TritswapError(
      'unsupported',
      `Cannot use ${expert} on ${name}: it brings keys and values of each layer, and the graph takes none by the names past_key_values.<layer>.key and .value in sizes that it says; export it with a cache (optimum: --task text-generation-with-past), or train prompt tuning`,
      { fields: { expert, base: name } },
    )
  }
  const targets = new Set(tensors.map(({ target }) => target))
  const missing = [...caches.keys()].filter((target) => !targets.has(target))
  const other = [...targets].filter((target) => !caches.has(target))
  if (missing.length + other.length === 0) return
  throw new TritswapError(
    'base',
    `Cannot use ${expert} on ${name}: expected keys and values of ${caches.size / 2} layers, found those of ${targets.size / 2}; load the base it was made for`,
    { fields: { expert, base: name, missing, other } },
  )
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
