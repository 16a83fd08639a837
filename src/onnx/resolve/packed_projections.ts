/**
 * Projections that an optimizer packed into one weight of an attention node, [inputs, q + k + v], under a name of its own: only
 * the values tell which tensors they are.
 *
 * @module
 */
import type { Reader } from '../graph/graph_index.ts'
import { isStandard, operatorOf } from '../graph/operators.ts'
import type { NodeProto } from '../proto/onnx_pb.ts'
import { fusedPlacements } from './placements.ts'
import type { Filling, LocatedParameter } from './resolution.ts'
import { type CheckpointSamples, type InitializerSamples, isConstant, sameValues } from './samples.ts'

/** What is packed into an initializer. */
export interface Packed {
  /** Outputs of q, k and v. */
  sizes: readonly number[]
  /** `weight` or `bias`. */
  kind: 'weight' | 'bias'
  /** The node's own weight, which tells the names of the biases. */
  weight: string
}

/** The parts of what a node reads, where it packs projections there. */
export function packedIn({ node, position }: Reader, dims: readonly number[]): Packed | undefined {
  const { packed } = operatorOf(node)
  if (packed === undefined || isStandard(node)) return undefined
  const kind = position === packed.weight ? 'weight' : position === packed.bias ? 'bias' : undefined
  if (kind === undefined || dims.length !== (kind === 'weight' ? 2 : 1)) return undefined
  const total = dims.at(-1)!
  const sizes = listOf(node, packed.sizes) ?? [total / 3, total / 3, total / 3]
  const fits = sizes.length === 3 && sizes.every((size) => Number.isInteger(size) && size > 0)
  if (!fits || sizes.reduce((a, b) => a + b) !== total) return undefined
  return { sizes, kind, weight: node.input[packed.weight] }
}

function listOf(node: NodeProto, name: string): number[] | undefined {
  return node.attribute.find((attribute) => attribute.name === name)?.ints.map(Number)
}

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
