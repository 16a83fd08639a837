/**
 * How the buffers of a bypass are filled: which tensors go into each graph input, where in it and with which weight.
 *
 * @module
 */
import { summaryOf } from '../format/codecs/index.ts'
import { virtualTokensOf } from '../format/contributions.ts'
import type { FloatInputDtype } from '../format/dtype.ts'
import { tilingOf } from '../format/index.ts'
import type { ResidentExpert, UnpackedPart, UnpackRequest } from '../gpu/index.ts'
import { type BypassInput, type Site, sideBlockSize, sideBlocks } from '../onnx/index.ts'
import type { ExpertTerm, SitePlan } from './bypass_plan.ts'

type WeightedPart = UnpackedPart & { weight: number }

/** Sites in which the same tensors of an expert lie in the same way share codes, whichever graph they are in. */
export function codesKey({ inputs, outputs }: Site, side: readonly ExpertTerm<'side'>[]): string {
  return [
    inputs,
    outputs,
    ...side.map(({ index, part }) => `${index}@${part.firstOutput}${part.transposed}`),
  ].join()
}

/** The ternary tensors of one expert at a site. */
export function codesRequest({ inputs, outputs }: Site, side: readonly ExpertTerm<'side'>[]): UnpackRequest {
  const row = sideBlocks(inputs) * sideBlockSize(inputs)
  const parts = side.map((term) => matrix(term, row, 1))
  return { kind: 'codes', fields: outputs * row, parts }
}

/**
 * Ranks that low-rank pairs are padded to, and multiples of the last beyond: a runtime compiles its kernels for each rank, so
 * that sets of other experts should meet ranks that were there before.
 */
const RANKS = [1, 2, 4, 8] as const

/** Rank of all low-rank pairs at a site together, as they are padded. */
export function rankAt({ lowRank }: Pick<SitePlan, 'lowRank'>): number {
  const rank = lowRank.reduce((sum, { rank }) => sum + rank, 0)
  const [step] = RANKS.slice(-1)
  return RANKS.find((padded) => padded >= rank) ?? Math.ceil(rank / step) * step
}

/** What an input's symbolic size is: the rank of the pairs, or the number of virtual tokens. */
export function sizeOf({ kind }: Pick<BypassInput, 'kind'>, plan: SitePlan): number {
  if (kind !== 'virtual') return rankAt(plan)
  return plan.virtual.reduce(
    (sum, { expert, index }) => sum + virtualTokensOf([expert.table.tensors[index]]),
    0,
  )
}

/** What fills an input that belongs to a set alone: all but `codes`, `ones`, and pairs where the set has none. */
export function requestFor(input: BypassInput, plan: SitePlan): UnpackRequest {
  const { kind, dims, side } = input
  const dtype = input.dtype as FloatInputDtype
  const { site, lowRank } = plan
  const { inputs, outputs } = site
  const isConv = site.kind === 'conv'
  const rank = rankAt(plan)
  const count = dims.reduce((product, size) => product * (size < 0 ? sizeOf(input, plan) : size), 1)
  const floats = (from: 0 | 1, parts: WeightedPart[]): UnpackRequest => ({
    kind: 'floats',
    dtype,
    count,
    from,
    parts,
  })
  switch (kind) {
    case 'strength':
      return { kind: 'values', dtype, values: sideStrengths(plan, side as number, count) }
    case 'delta': {
      const [outputStep, inputStep] = isConv ? [inputs, 1] : [1, outputs]
      return floats(
        0,
        plan.delta.map((term) => matrix(term, outputStep, inputStep)),
      )
    }
    case 'down':
      return floats(0, factors(lowRank, 'down', isConv ? [inputs, 1] : [1, rank]))
    case 'up':
      return floats(0, factors(lowRank, 'up', isConv ? [1, rank] : [outputs, 1]))
    case 'inputScale':
      return floats(
        1,
        plan.inputScale.map((term) => vector(term, 0)),
      )
    case 'outputScale':
      return floats(
        1,
        plan.outputScale.map((term) => vector(term, term.part.firstOutput)),
      )
    case 'bias':
      return floats(
        0,
        plan.bias.map((term) => vector(term, term.part.firstOutput)),
      )
    case 'virtual':
      return floats(
        0,
        plan.virtual.map((term) => vector(term, 0)),
      )
    default:
      throw new Error(`${kind} is shared between sets`)
  }
}

/** A checkpoint matrix in a buffer with these steps from one output to the next and from one input to the next. */
function matrix(
  { expert, index, weight, part: { firstOutput, transposed } }: ExpertTerm<'side' | 'delta'>,
  outputStep: number,
  inputStep: number,
): WeightedPart {
  const [rowStride, colStride] = transposed ? [inputStep, outputStep] : [outputStep, inputStep]
  return { expert, index, weight, offset: firstOutput * outputStep, rowStride, colStride }
}

function vector(
  { expert, index, weight }: { expert: ResidentExpert; index: number; weight: number },
  offset: number,
): WeightedPart {
  const { cols } = tilingOf(expert.table.tensors[index].shape)
  return { expert, index, weight, offset, rowStride: cols, colStride: 1 }
}

/** One factor of every pair at a site, the ranks one after another. */
function factors(
  terms: readonly ExpertTerm<'lowRank'>[],
  which: 'down' | 'up',
  [rankStep, otherStep]: readonly number[],
): WeightedPart[] {
  let firstRank = 0
  return terms.map(({ expert, rank, part, scaling, weight, [which]: { index, rankFirst, vectors } }) => {
    const worth = which === 'up' ? weight * scaling : 1
    const first = which === 'up' ? part.firstOutput : 0
    const offset = firstRank * rankStep + first * otherStep
    firstRank += rank
    const [rowStride, colStride] = rankFirst ? [rankStep, otherStep] : [otherStep, rankStep]
    return { expert, index, vectors, weight: worth, offset, rowStride, colStride }
  })
}

/** What the codes of one side input are worth: one number, or one for each output of a fused site. */
function sideStrengths({ side }: SitePlan, position: number, count: number): number[] {
  const values = new Array<number>(count).fill(0)
  for (const { expert, index, weight, part } of side[position] ?? []) {
    const tensor = expert.table.tensors[index]
    const value = weight * (summaryOf(tensor).scale ?? 1)
    if (count === 1) values[0] = value
    else values.fill(value, part.firstOutput, part.firstOutput + (part.transposed ? part.cols : part.rows))
  }
  return values
}
