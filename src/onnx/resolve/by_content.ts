/**
 * Resolution with the checkpoint at hand: values decide, and names only between tensors that are equal.
 *
 * @module
 */
import type { Checkpoint } from './checkpoint.ts'
import { belowModule } from './file_modules.ts'
import { partsOfJoined } from './joined_projections.ts'
import { matchName, sharedSuffix } from './names.ts'
import { matchPacked } from './packed_projections.ts'
import type { ParameterGroup } from './parameters.ts'
import { fusedPlacements, layoutsOf, placementOf } from './placements.ts'
import { type Filling, type LocatedParameter, type Resolution, separate } from './resolution.ts'
import { CheckpointSamples, InitializerSamples, isConstant, sameValues } from './samples.ts'

/** Likeness of a name that is the wanted one, above that of any other. */
const EXACT = 1000

export async function resolveByContent(
  located: readonly LocatedParameter[],
  checkpoint: Checkpoint,
): Promise<Resolution> {
  const expected = new CheckpointSamples(checkpoint)
  const resolution: Resolution = { resolved: [], unmatched: [] }
  /** Tensors that are packed into weights of attention nodes, by file and initializer. */
  const packed = new Map<string, readonly string[]>()
  for (const item of weightsFirst(located)) {
    const samples = new InitializerSamples(item.data)
    const found: { group: ParameterGroup; filling: Filling }[] = []
    for (const group of item.parameter.groups) {
      const key = `${item.file} ${group.packed?.weight}`
      const filling =
        (await matchWhole(group, item, samples, expected)) ??
        (await matchParts(group, item, samples, expected)) ??
        (group.packed && (await matchPacked(group.packed, item, samples, expected, packed.get(key))))
      if (filling !== undefined && group.packed?.kind === 'weight')
        packed.set(
          key,
          filling.parts.map(({ tensor }) => tensor),
        )
      if (filling !== undefined) found.push({ group, filling })
    }
    if (found.length > 0) resolution.resolved.push(...separate(item, found))
    else if (
      !item.parameter.small &&
      item.parameter.groups.some(({ names, packed }) => names.length > 0 || packed)
    )
      resolution.unmatched.push(item)
  }
  return resolution
}

/** Biases that are packed go by the names of the weights beside them. */
function weightsFirst(located: readonly LocatedParameter[]): LocatedParameter[] {
  const isBias = ({ parameter }: LocatedParameter) =>
    parameter.groups.some(({ packed }) => packed?.kind === 'bias')
  return [...located].sort((a, b) => Number(isBias(a)) - Number(isBias(b)))
}

/** The tensor that fills an initializer. */
async function matchWhole(
  group: ParameterGroup,
  { file, data }: LocatedParameter,
  samples: InitializerSamples,
  checkpoint: CheckpointSamples,
): Promise<Filling | undefined> {
  const names = namesIn(file, group)
  let best: { filling: Filling; score: number } | undefined
  for (const [name, { shape }] of checkpoint.tensors) {
    // Likeness of names decides between equal values: tied tensors, and norms that are all ones.
    const score = Math.max(
      ...names.map((wanted, rank) => (wanted === name ? EXACT - rank : sharedSuffix(wanted, name))),
    )
    if (best !== undefined && score <= best.score) continue
    for (const layout of layoutsOf(shape, data.dims, group.layout)) {
      const part = placementOf(name, shape, layout)
      const found = await samples.at(shape, part)
      const expected = await checkpoint.of(name)
      const addend = (group.norm ? [0, 1] : [0]).find((by) =>
        sameValues(
          found,
          expected.map((value) => value + by),
          data,
        ),
      )
      if (addend === undefined) continue
      if (isConstant(expected) && names.every((wanted) => matchName(wanted, [name]) === undefined)) continue
      const filling: Filling = { parts: [part], shapes: new Map([[name, shape]]) }
      if (addend !== 0) filling.addend = addend
      best = { filling, score }
      break
    }
  }
  return best?.filling
}

/** The tensors that fill a fused projection. */
async function matchParts(
  group: ParameterGroup,
  { file, data }: LocatedParameter,
  samples: InitializerSamples,
  checkpoint: CheckpointSamples,
): Promise<Filling | undefined> {
  for (const wanted of namesIn(file, group)) {
    const names = partsOfJoined(wanted)?.map((part) => matchName(part, checkpoint.tensors.keys()))
    if (names === undefined || names.some((name) => name === undefined)) continue
    const shapes = new Map((names as string[]).map((name) => [name, checkpoint.tensors.get(name)!.shape]))
    const rows = Array.from(shapes.values(), (shape) => shape[0])
    const other = group.layout === 'transposed' ? 'checkpoint' : 'transposed'
    for (const layout of [group.layout, other] as const) {
      const parts = fusedPlacements([...shapes.keys()], [...shapes.values()], rows, layout, data.dims)
      if (parts === undefined) continue
      let same = true
      for (const part of parts) {
        const found = await samples.at(shapes.get(part.tensor)!, part)
        same &&= sameValues(found, await checkpoint.of(part.tensor), data)
      }
      if (same) return { parts, shapes }
    }
  }
  return undefined
}

/** The names of a group, and the same below the module that the graph is an export of. */
function namesIn(file: string, { names }: ParameterGroup): string[] {
  return [...names, ...names.map((name) => belowModule(file, name))]
}
