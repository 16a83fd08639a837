/**
 * Resolution without the checkpoint: names, and the operators that read a parameter, say what it is.
 *
 * @module
 */
import { belowModule, inWholeModel, isEncoder } from './file_modules.ts'
import { partsWithoutCheckpoint } from './joined_projections.ts'
import type { ParameterGroup } from './parameters.ts'
import { fusedPlacements, layoutsOf, placementOf } from './placements.ts'
import {
  type Filling,
  type LocatedParameter,
  type Resolution,
  type ResolvedParameter,
  separate,
} from './resolution.ts'
import { coarser, InitializerSamples, isConstant, sameValues } from './samples.ts'

/** Models whose norms multiply with 1 + weight: an exporter that folds constants leaves the sum in the graph. */
const UNIT_NORMS = /^(gemma|gemma2|gemma3|gemma3_text|paligemma|recurrent_gemma|qwen3_next|nemotron)$/

/** @param modelType - `model_type` of config.json; '' where there is none */
export async function resolveByName(
  items: readonly LocatedParameter[],
  modelType: string,
): Promise<Resolution> {
  const normAddend = UNIT_NORMS.test(modelType) ? 1 : undefined
  const unmatched = items.filter(({ parameter }) => parameter.folded && !parameter.small)
  const located = items.filter(({ parameter }) => !parameter.folded && !parameter.small).map(withNames)
  const resolved: ResolvedParameter[] = []
  const samples = new Map(located.map(({ parameter, data }) => [parameter, new InitializerSamples(data)]))
  const isSame: SameContent = (a, b) => sameContent(a, b, (entry) => samples.get(entry.parameter)!)
  const taken = new Map<string, ResolvedParameter>()
  const embeddings: ResolvedParameter[] = []
  for (const item of [...located].sort((a, b) => orderOf(a) - orderOf(b))) {
    const tied = await tiedTo(item, embeddings, isSame)
    const { groups } = item.parameter
    const named = tied === undefined ? namedGroups(item, modelType) : [{ group: groups[0], filling: tied }]
    for (let entry of separate(item, named)) {
      // Only where the sum was folded: in a graph that computes it, the parameter meets an Add first.
      if (groups.every(({ norm }) => norm) && normAddend !== undefined) entry.addend = normAddend
      if (tied === undefined) entry = renamed(entry, (name) => inWholeModel(item.file, name))
      const [{ tensor }] = entry.parts
      const known = taken.get(tensor)
      if (known === undefined) taken.set(tensor, entry)
      else if (tied === undefined && !(await isSame(entry, known)))
        entry = renamed(entry, (name) => belowModule(item.file, name))
      if (isEmbedding(item)) embeddings.push(entry)
      resolved.push(entry)
    }
  }
  const order = new Map(located.map(({ parameter }, i) => [parameter, i]))
  resolved.sort((a, b) => order.get(a.parameter)! - order.get(b.parameter)!)
  return { resolved, unmatched }
}

type SameContent = (a: ResolvedParameter, b: ResolvedParameter) => Promise<boolean>

/** What nothing names keeps the name that it has in the graph: an expert may still know it by its values. */
function withNames(item: LocatedParameter): LocatedParameter {
  const { tensor, groups } = item.parameter
  const named = groups.map((group) => (group.names.length > 0 ? group : { ...group, names: [tensor.name] }))
  return { ...item, parameter: { ...item.parameter, groups: named } }
}

function isEmbedding({ parameter }: LocatedParameter): boolean {
  return parameter.groups.some(({ embedding }) => embedding)
}

/** Embeddings first: what is tied to one takes its name. Those of an encoder later, whose graph says less of it. */
function orderOf(item: LocatedParameter): number {
  if (!isEmbedding(item)) return 2
  return isEncoder(item.file) ? 1 : 0
}

/** The groups of a parameter with the names they get when nothing can be compared. */
function namedGroups(
  { parameter, data }: LocatedParameter,
  modelType: string,
): { group: ParameterGroup; filling: Filling }[] {
  const { groups } = parameter
  const own = groups[0].names.at(-1)!
  const embedding = groups.find((group) => group.embedding)
  // Module names of the readers are to be believed when one of them repeats the initializer's own name.
  const isMerged =
    embedding === undefined && groups.length > 1 && groups.some((group) => group.names[0] === own)
  if (isMerged)
    return groups.map((group) => ({ group, filling: fillingOf(group.names[0], group, data.dims, modelType) }))
  const group = embedding ?? groups[0]
  const name =
    embedding !== undefined && embedding.names.length > 1 && groups.length > 1
      ? embedding.names[0]
      : group.names.at(-1)!
  return [{ group, filling: fillingOf(name, group, data.dims, modelType) }]
}

function fillingOf(name: string, group: ParameterGroup, dims: readonly number[], modelType: string): Filling {
  const parts = group.fused && partsWithoutCheckpoint(name, modelType)
  if (parts !== undefined && group.fused !== undefined) {
    const inner = dims.length === 2 ? [group.layout === 'transposed' ? dims[0] : dims[1]] : []
    const shapes = group.fused.map((rows) => [rows, ...inner])
    const placements = fusedPlacements(parts, shapes, group.fused, group.layout, dims)
    if (placements !== undefined)
      return { parts: placements, shapes: new Map(parts.map((part, i) => [part, shapes[i]])) }
  }
  const layout = dims.length === 2 ? group.layout : 'checkpoint'
  const shape = layout === 'transposed' ? [dims[1], dims[0]] : [...dims]
  return { parts: [placementOf(name, shape, layout)], shapes: new Map([[name, shape]]) }
}

/** The embedding that holds the same matrix, in the same or in the other order. */
async function tiedTo(
  item: LocatedParameter,
  embeddings: readonly ResolvedParameter[],
  isSame: SameContent,
): Promise<Filling | undefined> {
  if (item.data.dims.length !== 2) return undefined
  for (const embedding of embeddings) {
    const [[name, shape]] = embedding.shapes
    for (const layout of layoutsOf(shape, item.data.dims, item.parameter.groups[0].layout)) {
      const filling = { parts: [placementOf(name, shape, layout)], shapes: new Map([[name, shape]]) }
      if (await isSame({ ...item, ...filling }, embedding)) return filling
    }
  }
  return undefined
}

/** Whether the first tensors of two parameters have the same shape and values. */
async function sameContent(
  a: ResolvedParameter,
  b: ResolvedParameter,
  samplesOf: (entry: ResolvedParameter) => InitializerSamples,
): Promise<boolean> {
  const [shapeA] = a.shapes.values()
  const [shapeB] = b.shapes.values()
  if (shapeA.join() !== shapeB.join()) return false
  const found = await samplesOf(a).at(shapeA, a.parts[0])
  const expected = await samplesOf(b).at(shapeB, b.parts[0])
  return !isConstant(found) && sameValues(found, expected, coarser(a.data, b.data))
}

function renamed(entry: ResolvedParameter, rename: (name: string) => string): ResolvedParameter {
  return {
    ...entry,
    parts: entry.parts.map((part) => ({ ...part, tensor: rename(part.tensor) })),
    shapes: new Map(Array.from(entry.shapes, ([name, shape]) => [rename(name), shape])),
  }
}
