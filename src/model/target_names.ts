/**
 * Targets of an expert that the base has under another name. Exporters leave out or add the modules that hold a whole
 * model (`model.`, `bert.`), and give a weight that several modules share the name of one of them.
 *
 * @module
 */
import { type Contribution, contributionsOf, misfitOf } from '../format/contributions.ts'
import { compareSketch, fromHalf, SKETCH_VALUES, type TritTable, targetsOf } from '../format/index.ts'
import { matchName } from '../onnx/index.ts'
import type { BaseIdentity } from './base_check.ts'

/** Values of the untouched base at the positions that follow from `seeds`, {@link SKETCH_VALUES} for each tensor. */
export type SketchReader = (tensors: readonly string[], seeds: readonly string[]) => Promise<Float32Array>

/** Beyond so many comparisons it is another model, and not one with a few other names. */
const MAX_COMPARISONS = 4096

/**
 * Finds unknown targets by name, where exactly one tensor differs from them by leading components alone, and else by
 * content, where exactly one tensor of the same shape has the values of the expert's sketch.
 *
 * @param sharedBy - the weight of a module that goes by the name of another's
 * @returns names of the base by the expert's, and the base as the expert calls it; what was found by name is only a
 * guess until `checkBase` agrees
 */
export async function renameTargets(
  table: TritTable,
  base: BaseIdentity,
  read: SketchReader,
  sharedBy: (target: string) => string | undefined = () => undefined,
): Promise<{ renamed: ReadonlyMap<string, string>; base: BaseIdentity }> {
  const targets = targetsOf(table.tensors)
  const contributions = byTarget(table)
  const shared = sharedTargets(contributions, base, sharedBy)
  for (const target of shared.keys()) contributions.delete(target)
  const pairs = candidatesOf(contributions, targets, base, table.base.sketch !== undefined)
  if (pairs.length === 0 && shared.size === 0) return { renamed: new Map(), base }
  const values = await read(
    pairs.map(({ name }) => name),
    pairs.map(({ target }) => target),
  )
  const found = new Map<string, { name: string; values: Float32Array }[]>()
  for (const [i, { target, name, byName }] of pairs.entries()) {
    const read = values.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES)
    const at = targets.indexOf(target) * SKETCH_VALUES
    const sketch = table.base.sketch?.subarray(at, at + SKETCH_VALUES)
    if (!byName && !(sketch && compareSketch(sketch, read, base.dtype).same)) continue
    // Weights out of sight are taken at their name: the others tell whether the base is the right one.
    const isUnseen = read.every((value) => Number.isNaN(value))
    const own = isUnseen && sketch ? Float32Array.from(sketch, fromHalf) : read
    found.set(target, [...(found.get(target) ?? []), { name, values: own }])
  }
  const renamed = new Map<string, string>(shared)
  const shapes = new Map(base.shapes)
  const sketches = new Map(base.sketches)
  for (const [target, name] of shared) {
    shapes.set(target, base.shapes.get(name) as readonly number[])
    // Compressed without its own, it has nothing to be compared with.
    const at = targets.indexOf(target) * SKETCH_VALUES
    const own = table.base.sketch?.subarray(at, at + SKETCH_VALUES)
    if (own !== undefined) sketches.set(target, Float32Array.from(own, fromHalf))
  }
  for (const [target, matches] of found) {
    // Several that are alike are constants: any of them, so none.
    if (matches.length > 1) continue
    const [{ name, values: own }] = matches
    renamed.set(target, name)
    shapes.set(target, base.shapes.get(name) as readonly number[])
    sketches.set(target, own)
  }
  return { renamed, base: { ...base, shapes, sketches } }
}

/** What the tensors of a table contribute, by the name that it has for the target. */
type ByTarget = ReadonlyMap<string, readonly Contribution[]>

function byTarget(table: TritTable): Map<string, Contribution[]> {
  const contributions = new Map<string, Contribution[]>()
  for (const contribution of contributionsOf(table.tensors)) {
    const { target } = contribution
    contributions.set(target, [...(contributions.get(target) ?? []), contribution])
  }
  return contributions
}

/**
 * Targets of LoRA and (IA)³ whose module shares the weight that goes by another module's name. A checkpoint that ties
 * the two has no tensor of that name, so there is no sketch.
 */
function sharedTargets(
  contributions: ByTarget,
  { shapes }: BaseIdentity,
  sharedBy: (target: string) => string | undefined,
): ReadonlyMap<string, string> {
  const shared = new Map<string, string>()
  for (const [target, own] of contributions) {
    if (shapes.has(target) || matchName(target, shapes.keys()) !== undefined) continue
    const name = own.every(({ kind }) => kind !== 'delta') ? sharedBy(target) : undefined
    if (name !== undefined && shapes.has(name)) shared.set(target, name)
  }
  return shared
}

/**
 * @param targets - all that the table names, which no other target can be
 * @param hasSketch - whether there is a sketch to compare with
 */
function candidatesOf(
  contributions: ByTarget,
  targets: readonly string[],
  { shapes }: BaseIdentity,
  hasSketch: boolean,
): { target: string; name: string; byName: boolean }[] {
  const taken = new Set(targets)
  const pairs: { target: string; name: string; byName: boolean }[] = []
  const byContent: typeof pairs = []
  for (const [target, own] of contributions) {
    if (shapes.has(target)) continue
    const name = matchName(target, shapes.keys())
    if (name !== undefined) {
      pairs.push({ target, name, byName: true })
      continue
    }
    if (!hasSketch) continue
    for (const [candidate, shape] of shapes) {
      if (!taken.has(candidate) && own.every((contribution) => couldChange(contribution, shape)))
        byContent.push({ target, name: candidate, byName: false })
    }
  }
  return pairs.length + byContent.length > MAX_COMPARISONS ? pairs : [...pairs, ...byContent]
}

/** LoRA and (IA)³ are of weights, which are no vectors. */
function couldChange(contribution: Contribution, shape: readonly number[]): boolean {
  return (contribution.kind === 'delta' || shape.length >= 2) && misfitOf(contribution, shape) === undefined
}
