import { TritswapError } from '../errors.ts'
import { contributionsOf, misfitOf } from '../format/contributions.ts'
import { compareSketch, SKETCH_VALUES, type TritTable, targetsOf, type WeightDtype } from '../format/index.ts'

/** Where a sketch has no value, in f16. */
const HALF_NAN = 0x7e00

/** What is known of the base in VRAM. */
export interface BaseIdentity {
  name: string
  /** Fingerprint of the checkpoint that it was prepared from, if that was at hand. */
  fingerprint?: string
  dtype: WeightDtype
  /** Shape of every checkpoint tensor that the model holds. */
  shapes: ReadonlyMap<string, readonly number[]>
  /** Sketch values of every such tensor, read from VRAM before any expert touched it. */
  sketches: ReadonlyMap<string, ArrayLike<number>>
  /** Whether the graphs have no use for a tensor that has no place in them: to change it changes nothing. */
  isUnused?: (tensor: string) => boolean
}

/** Targets of an expert that a base has no place for, and needs none. */
export function unusedTargets(table: TritTable, { shapes, isUnused }: BaseIdentity): ReadonlySet<string> {
  return new Set(
    targetsOf(table.tensors).filter((target) => !shapes.has(target) && isUnused?.(target) === true),
  )
}

/**
 * Refuses an expert that was made for another base, before any of it reaches a weight.
 *
 * @throws {TritswapError} `mapping` if this model lacks a target, `base` if shapes, fingerprint or sketch say that the
 * expert belongs to another one; and as {@link contributionsOf}
 */
export function checkBase(table: TritTable, expert: string, base: BaseIdentity): void {
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
      `Cannot use ${expert} on ${base.name}: ${unmapped.length || targets.length} of its ${targets.length} tensors have no place there, first ${first}; the nearest names are ${nearest.join(', ')}; its exporter may have folded it into another weight`,
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
  if (table.base.sketch !== undefined) {
    const found = new Float64Array(targets.length * SKETCH_VALUES)
    const expected = table.base.sketch.slice()
    for (const [i, target] of targets.entries()) {
      const at = i * SKETCH_VALUES
      if (unused.has(target)) expected.fill(HALF_NAN, at, at + SKETCH_VALUES)
      else found.set(base.sketches.get(target) ?? [], at)
    }
    const { same, distance, tolerance } = compareSketch(expected, found, base.dtype)
    if (!same) {
      throw wrongBase(
        expert,
        base,
        `the weights it was made for differ from these by ${distance.toPrecision(3)}, and ${tolerance.toPrecision(2)} is allowed for ${base.dtype}`,
        { distance, tolerance },
      )
    }
  }
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
