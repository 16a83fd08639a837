/**
 * Projections that an optimizer packed into one weight of an attention node, [inputs, q + k + v], under a name of its own: only
 * the values tell which tensors they are.
 *
 * @module
 */
import type { Packed } from './packed_sizes.ts'
import { fusedPlacements } from './placements.ts'
import type { Filling, LocatedParameter } from './resolution.ts'
import { type CheckpointSamples, type InitializerSamples, isConstant, sameValues } from './samples.ts'

/**
 * The tensors of the checkpoint that are packed into an initializer.
 * @param names - of the parts that were found in the node's weight, if it is a bias that is looked for
 */
export async function matchPacked(
  { sizes, kind }: Packed,
  { data }: LocatedParameter,
  samples: InitializerSamples,
  checkpoint: CheckpointSamples,
  names?: readonly string[],
): Promise<Filling | undefined> {
  const inputs = kind === 'weight' ? [data.dims[0]] : []
  const shapes = sizes.map((size) => [size, ...inputs])
  const layout = kind === 'weight' ? 'transposed' : 'checkpoint'
  const places = fusedPlacements(['', '', ''], shapes, sizes, layout, data.dims)
  if (places === undefined) return undefined
  const candidates: string[][] = []
  for (const [i, place] of places.entries()) {
    const wanted = names?.[i].replace(/weight$/, 'bias')
    const found: string[] = []
    const values = await samples.at(shapes[i], place)
    for (const [name, { shape }] of checkpoint.tensors) {
      if (shape.join() !== shapes[i].join() || (wanted !== undefined && name !== wanted)) continue
      // Constants are like one another, and only a name tells them apart.
      if (sameValues(values, await checkpoint.of(name), data) && (wanted === name || !isConstant(values)))
        found.push(name)
    }
    candidates.push(found)
  }
  const parts = ofOneModule(candidates)
  if (parts === undefined) return undefined
  const all = places.map((place, i) => ({ ...place, tensor: parts[i] }))
  return { parts: all, shapes: new Map(parts.map((name, i) => [name, shapes[i]])) }
}

/** One candidate of each part, those that share the most of their names with the first; undefined where a part has none. */
function ofOneModule(candidates: readonly string[][]): string[] | undefined {
  if (candidates.some((names) => names.length === 0)) return undefined
  const [first] = candidates[0]
  const likest = (names: readonly string[]) =>
    names.reduce((best, name) => (commonStart(name, first) > commonStart(best, first) ? name : best))
  const parts = [first, ...candidates.slice(1).map(likest)]
  // Query and key of the same values are one tensor under two names.
  return new Set(parts).size === parts.length ? parts : undefined
}

function commonStart(a: string, b: string): number {
  let count = 0
  while (count < a.length && a[count] === b[count]) count++
  return count
}
