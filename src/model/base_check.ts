import { TritswapError } from '../errors.ts'
import { contributionsOf, misfitOf, virtualTensorOf } from '../format/contributions.ts'
import {
  compareBase,
  SKETCH_VALUES,
  type SketchedTensor,
  type TritTable,
  targetsOf,
  type WeightDtype,
} from '../format/index.ts'

/**
 * What says that an expert was made for a base:
 * - `same`: the fingerprint of the checkpoint, or weights that are equal up to the rounding of floats;
 * - `rounded`: weights that are equal up to quantization. Another base that is nearer than that is not told apart;
 * - `unknown`: only names and shapes, because one side carries no fingerprint and the expert has no sketch, or none
 *   that differs between models.
 */
export type BaseMatch = 'same' | 'rounded' | 'unknown'

/** What is known of the base in VRAM. */
export interface BaseIdentity {
  name: string
  /** Fingerprint of the checkpoint that it was prepared from, if that was at hand. */
  fingerprint?: string
  /** What weights of the base are rounded to, judged by the coarsest. */
  dtype: WeightDtype
  /** The same for tensors of which more is known. */
  dtypes?: ReadonlyMap<string, WeightDtype>
  /** Weights that share a scale, of tensors that were quantized in blocks. */
  blockSizes?: ReadonlyMap<string, number>
  /** Shape of every checkpoint tensor that the model holds. */
  shapes: ReadonlyMap<string, readonly number[]>
  /** Sketch values of such tensors, read from VRAM before any expert touched it; a tensor out of sight has none. */
  sketches: ReadonlyMap<string, ArrayLike<number>>
  /** Whether the graphs have no use for a tensor that has no place in them: to change it changes nothing. */
  isUnused?: (tensor: string) => boolean
}

/** Targets of an expert that a base has no place for, and needs none. */
export function unusedTargets(table: TritTable, { shapes, isUnused }: BaseIdentity): ReadonlySet<string> {
  // Keys and values are not weights: they can be read wherever they fit.
  if (virtualTensorOf(table.tensors) !== undefined) return new Set()
  return new Set(
    targetsOf(table.tensors).filter((target) => !shapes.has(target) && isUnused?.(target) === true),
  )
}

/**
 * Refuses an expert that was made for another base, before any of it reaches a weight.
 *
 * @returns what shows that it was made for this one
 * @throws {TritswapError} `mapping` if this model lacks a target, `base` if shapes, fingerprint or sketch say that the
 * expert belongs to another one; and as {@link contributionsOf}
 */
export function checkBase(table: TritTable, expert: string, base: BaseIdentity): BaseMatch {
  const { fingerprint } = table.base
  if (fingerprint !== undefined && base.fingerprint !== undefined && fingerprint !== base.fingerprint) {
    throw wrongBase(
      expert,
      base,
      `it was made for the checkpoint ${table.base.name ?? ''} ${short(fingerprint)} and this base is ${short(base.fingerprint)}`,
      { expected: fingerprint, found: base.fingerprint },
    )
  }
  const targets = targetsOf(table.tensors)
  const unused = unusedTargets(table, base)
  const unmapped = targets.filter((target) => !base.shapes.has(target) && !unused.has(target))
  if (unmapped.length > 0 || unused.size === targets.length) {
    const [first] = unmapped.length > 0 ? unmapped : targets
    const nearest = nearestNames(first, base.shapes.keys())
    throw new TritswapError(
      'mapping',
      `Cannot use ${expert} on ${base.name}: ${unmapped.length || targets.length} of its ${targets.length} tensors have no place there, first ${first}; the nearest names are ${nearest.join(', ')}; its exporter may have folded it into another weight, or packed it with others into one of an Attention node: give prepare the checkpoint (--checkpoint), whose values tell, or export the model without fusing attention (optimum: --optimize O1 at most)`,
      { fields: { expert, base: base.name, unmapped, nearest } },
    )
  }
  for (const contribution of contributionsOf(table.tensors)) {
    const { target } = contribution
    if (unused.has(target)) continue
    const found = base.shapes.get(target) as readonly number[]
    const misfit = misfitOf(contribution, found)
    if (misfit !== undefined) {
      const { name, shape } = misfit.tensor
      throw wrongBase(expert, base, `its ${name} is [${shape}] and ${target} here is [${found}]`, {
        tensor: name,
        expected: shape,
        found,
      })
    }
  }
  const { sketch, dtype: expectedDtype } = table.base
  const isKnown = fingerprint !== undefined && base.fingerprint !== undefined
  if (sketch === undefined) return isKnown ? 'same' : 'unknown'
  const tensors = targets.flatMap((name, i): SketchedTensor[] => {
    const found = base.sketches.get(name)
    if (found === undefined) return []
    const expected = sketch.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES)
    return [{ name, expected, found, ...dtypesOf(name, base, expectedDtype) }]
  })
  const { verdict, tensor, distance, tolerance, differing } = compareBase(tensors)
  if (verdict === 'other') {
    throw wrongBase(
      expert,
      base,
      `the weights it was made for differ from these by ${distance.toPrecision(3)} of their spread (${differing} of ${tensors.length} tensors, most of all ${tensor}), and ${tolerance.toPrecision(2)} is allowed for ${base.dtype}`,
      { distance, tolerance, tensor, differing },
    )
  }
  if (isKnown) return 'same'
  return verdict === 'alike' ? 'unknown' : verdict
}

/** Quantizers leave vectors alone, so those are compared as floats whatever the base's dtype. */
export function dtypesOf(
  name: string,
  { dtype, dtypes, blockSizes, shapes }: Pick<BaseIdentity, 'dtype' | 'dtypes' | 'blockSizes' | 'shapes'>,
  expectedDtype?: WeightDtype,
): Pick<SketchedTensor, 'dtype' | 'blockSize' | 'expectedDtype'> {
  const isVector = (shapes.get(name) ?? []).length < 2
  if (!isVector) return { dtype: dtypes?.get(name) ?? dtype, blockSize: blockSizes?.get(name), expectedDtype }
  return { dtype: dtype === 'f32' ? 'f32' : 'f16' }
}

function wrongBase(
  expert: string,
  base: BaseIdentity,
  why: string,
  fields: Record<string, unknown>,
): TritswapError {
  return new TritswapError(
    'base',
    `Cannot use ${expert} on ${base.name}: ${why}; load the base it was made for`,
    {
      fields: { expert, base: base.name, ...fields },
    },
  )
}

function short(fingerprint: string): string {
  return fingerprint.slice(0, 12)
}

/** The three known names that share the most path segments with `name`. */
export function nearestNames(name: string, known: Iterable<string>): string[] {
  const segments = name.split('.')
  const score = (candidate: string) => {
    const others = new Set(candidate.split('.'))
    return segments.filter((segment) => others.has(segment)).length / Math.max(segments.length, others.size)
  }
  return Array.from(known, (candidate) => ({ candidate, score: score(candidate) }))
    .sort((a, b) => b.score - a.score || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, 3)
    .map(({ candidate }) => candidate)
}
