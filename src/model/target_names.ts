/**
 * Targets of an expert that the base has under another name. Exporters leave out or add the modules that hold a whole
 * model (`model.`, `bert.`), and give a weight that several modules share the name of one of them.
 *
 * @module
 */
import {
  type Contribution,
  contributionsOf,
  isAsTarget,
  isWholeTensor,
  misfitOf,
} from '../format/contributions.ts'
import {
  compareBase,
  SKETCH_VALUES,
  type TritTable,
  targetsOf,
  tilingOf,
  weightsOf,
} from '../format/index.ts'
import { nameMatcher } from '../onnx/index.ts'
import { type BaseIdentity, dtypesOf } from './base_check.ts'

/** Values of the untouched base at the positions that follow from `seeds`, {@link SKETCH_VALUES} for each tensor. */
export type SketchReader = (tensors: readonly string[], seeds: readonly string[]) => Promise<Float32Array>

/** Comparisons of tensors whose numbers (layer, expert) are different ones: all pairs of one shape, 40 layers deep. */
const MAX_COMPARISONS = 16_384

/** Tensors of one shape and the same numbers that a target is compared with: projections of a layer, or of an expert. */
const MAX_ALIKE = 16

/** A match is the only one if every other is this many times further off. */
const CLEARLY_NEARER = 3

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
  const unknown = byTarget(table)
  for (const target of unknown.keys()) if (base.shapes.has(target)) unknown.delete(target)
  if (unknown.size === 0) return { renamed: new Map(), base }
  const match = nameMatcher(base.shapes.keys())
  const renamed = new Map<string, string>()
  const shapes = new Map(base.shapes)
  const sketches = new Map(base.sketches)
  const dtypes = new Map(base.dtypes)
  const rename = (target: string, name: string, values: ArrayLike<number> | undefined) => {
    renamed.set(target, name)
    shapes.set(target, base.shapes.get(name)!)
    const dtype = base.dtypes?.get(name)
    if (dtype !== undefined) dtypes.set(target, dtype)
    // Of weights out of sight nothing is known here: others tell whether the base is the right one.
    if (values !== undefined && !Array.prototype.every.call(values, Number.isNaN))
      sketches.set(target, values)
    unknown.delete(target)
  }
  const byName: Pair[] = []
  for (const [target, own] of unknown) {
    const name = match(target)
    if (name !== undefined) {
      byName.push({ target, name })
      continue
    }
    // Compressed without a sketch of its own, it has nothing to be compared with.
    const shared = own.every(isWholeTensor) ? sharedBy(target) : undefined
    if (shared !== undefined && base.shapes.has(shared)) rename(target, shared, undefined)
  }
  for (const [{ target, name }, values] of await readPairs(byName, read)) rename(target, name, values)
  if (table.base.sketch !== undefined) {
    for (const pairs of [sameNumbers, sameShape]) {
      if (unknown.size === 0) break
      const chosen = pairs(candidatesOf(unknown, table, base))
      const found = await readPairs(chosen, read)
      for (const [{ target, name }, values] of nearest(found, table, base)) rename(target, name, values)
    }
  }
  return { renamed, base: { ...base, shapes, sketches, dtypes } }
}

/** A target of the expert, and the tensor of the base that it may be. */
interface Pair {
  target: string
  name: string
}

async function readPairs(
  pairs: readonly Pair[],
  read: SketchReader,
): Promise<(readonly [Pair, Float32Array])[]> {
  if (pairs.length === 0) return []
  const values = await read(
    pairs.map(({ name }) => name),
    pairs.map(({ target }) => target),
  )
  return pairs.map((pair, i) => [pair, values.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES)])
}

/** Of the pairs that agree, those that are the only one for their target. */
function nearest(
  pairs: readonly (readonly [Pair, Float32Array])[],
  table: TritTable,
  base: BaseIdentity,
): (readonly [Pair, Float32Array])[] {
  const sketchOfTarget = sketchesOf(table)
  const found = new Map<string, { distance: number; match: readonly [Pair, Float32Array] }[]>()
  for (const match of pairs) {
    const [{ target, name }, values] = match
    const expected = sketchOfTarget.get(target)!
    const dtype = dtypesOf(name, base, table.base.dtype)
    const { verdict, distance } = compareBase([{ name, expected, found: values, ...dtype }])
    // Constants are like one another: any of them, so none.
    if (verdict !== 'same' && verdict !== 'rounded') continue
    push(found, target, { distance, match })
  }
  return [...found.values()].flatMap((matches) => {
    const [first, second] = matches.sort((a, b) => a.distance - b.distance)
    const isOnly = second === undefined || first.distance * CLEARLY_NEARER < second.distance
    return isOnly ? [first.match] : []
  })
}

function sketchesOf({ base: { sketch }, tensors }: TritTable): ReadonlyMap<string, Uint16Array> {
  return new Map(
    targetsOf(tensors).map((target, i) => [
      target,
      sketch!.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
    ]),
  )
}

/** What the tensors of a table contribute, by the name that it has for the target. */
type ByTarget = ReadonlyMap<string, readonly Contribution[]>

function byTarget(table: TritTable): Map<string, Contribution[]> {
  const contributions = new Map<string, Contribution[]>()
  for (const contribution of contributionsOf(table.tensors))
    push(contributions, contribution.target, contribution)
  return contributions
}

/** Targets that want a name, and the tensors of the base that have their shape and are not another target. */
interface Candidates {
  targets: readonly string[]
  names: readonly string[]
}

/** A tensor of the base is one target: where more targets have a shape than tensors, they are of another model. */
function candidatesOf(unknown: ByTarget, table: TritTable, { shapes }: BaseIdentity): Candidates[] {
  const known = new Set(targetsOf(table.tensors))
  const namesByShape = new Map<string, { shape: readonly number[]; names: string[] }>()
  for (const [name, shape] of shapes) {
    if (known.has(name)) continue
    const key = shape.join()
    const entry = namesByShape.get(key) ?? { shape, names: [] }
    entry.names.push(name)
    namesByShape.set(key, entry)
  }
  const targetsByKind = new Map<string, { contributions: readonly Contribution[]; targets: string[] }>()
  for (const [target, contributions] of unknown) {
    const kind = [...new Set(contributions.map(kindOf))].sort().join(';')
    const entry = targetsByKind.get(kind) ?? { contributions, targets: [] }
    entry.targets.push(target)
    targetsByKind.set(kind, entry)
  }
  return [...targetsByKind.values()].flatMap(({ contributions, targets }) => {
    const names = [...namesByShape.values()]
      .filter(({ shape }) => contributions.every((contribution) => couldChange(contribution, shape)))
      .flatMap(({ names }) => names)
    return targets.length <= names.length ? [{ targets, names }] : []
  })
}

/** What decides which shapes a contribution fits: there are few for each shape of a base, however many targets. */
function kindOf(contribution: Contribution): string {
  if (isAsTarget(contribution)) return contribution.tensor.shape.join()
  if (contribution.kind === 'virtual') return `virtual ${contribution.tensor.shape}`
  if (contribution.kind === 'scale') return `${contribution.over} ${weightsOf(contribution.tensor.shape)}`
  const [left, right] = [contribution.left, contribution.right].map(({ tensor, rankFirst }) => {
    const { rows, cols } = tilingOf(tensor.shape)
    return rankFirst ? [rows, cols] : [cols, rows]
  })
  return `${left[0] === right[0]} ${left[1]} × ${right[1]}`
}

/** Pairs with the same numbers in their names: layers and experts are counted alike whatever they are called. */
function sameNumbers(candidates: readonly Candidates[]): Pair[] {
  return candidates.flatMap(({ targets, names }) => {
    const byNumbers = new Map<string, string[]>()
    for (const name of names) push(byNumbers, numbersOf(name), name)
    return targets.flatMap((target) => {
      const alike = byNumbers.get(numbersOf(target)) ?? []
      // Of many, none is likelier than those of other numbers.
      return alike.length <= MAX_ALIKE ? alike.map((name) => ({ target, name })) : []
    })
  })
}

/** All pairs of a shape, for as many shapes as there may be comparisons, those with few pairs first. */
function sameShape(candidates: readonly Candidates[]): Pair[] {
  const pairs: Pair[] = []
  const count = ({ targets, names }: Candidates) => targets.length * names.length
  for (const candidate of [...candidates].sort((a, b) => count(a) - count(b))) {
    if (pairs.length + count(candidate) > MAX_COMPARISONS) break
    for (const target of candidate.targets) for (const name of candidate.names) pairs.push({ target, name })
  }
  return pairs
}

/** The components of a name that are numbers. */
function numbersOf(name: string): string {
  return name
    .split('.')
    .filter((component) => /^\d+$/.test(component))
    .join('.')
}

/** LoRA and (IA)³ change weights, which are not vectors. */
function couldChange(contribution: Contribution, shape: readonly number[]): boolean {
  return (!isWholeTensor(contribution) || shape.length >= 2) && misfitOf(contribution, shape) === undefined
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}
