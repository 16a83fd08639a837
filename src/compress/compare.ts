/**
 * How alike experts are, pair by pair.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { ReadOptions } from '../source/source.ts'
import { type OpenExpert, sameTensors, tensorNames } from './open_expert.ts'
import { addSums, NO_SUMS, type Operand, type PairSums, pairSums, readOperand } from './pair_sums.ts'
import { checkSameBase } from './same_base.ts'

/** How alike two experts are. What is counted weight by weight is null where one has terms: they touch every weight. */
export interface Similarity {
  dot: number
  /** −1 to 1; null when one of them is all zero. */
  cosine: number | null
  /** Σ |a − b| over all weights. */
  l1: number | null
  /** Σ |sign a − sign b|: how many steps between −, 0 and + turn one into the other. */
  signL1: number | null
  /** Weights kept by both, as a fraction of those kept by either; null when there are none. */
  overlap: number | null
  /** Of the weights kept by both, the fraction of the same sign; null when there are none. */
  signAgreement: number | null
}

export function similarityOf({ dot, squares, byWeight }: PairSums): Similarity {
  const norms = Math.sqrt(squares[0]) * Math.sqrt(squares[1])
  const { l1 = null, signL1 = null, shared = 0, either = 0, agreeing = 0 } = byWeight ?? {}
  return {
    dot,
    cosine: norms === 0 ? null : dot / norms,
    l1,
    signL1,
    overlap: either === 0 ? null : shared / either,
    signAgreement: shared === 0 ? null : agreeing / shared,
  }
}

/** How alike some experts are: entry [i][j] compares experts i and j. */
export interface Comparison {
  total: Similarity[][]
  /** By name, in order of first appearance; a tensor that an expert lacks counts as zero. */
  tensors: { name: string; similarity: Similarity[][] }[]
}

/**
 * Compares experts pair by pair, one tensor in memory at a time.
 * @throws {TritswapError} `base` or `input` for experts that have nothing to compare: of different bases or methods,
 * without a tensor in common, or with tensors of one name and different shapes or roles; and what reading throws
 */
export async function compareExperts(
  experts: readonly OpenExpert[],
  options?: ReadOptions,
): Promise<Comparison> {
  checkSameBase(experts, 'compare')
  checkOverlap(experts)
  let total = matrix(experts.length, () => NO_SUMS)
  const tensors = []
  for (const name of tensorNames(experts)) {
    const found = sameTensors(experts, name)
    const operands: (Operand | undefined)[] = []
    for (const [i, tensor] of found.entries()) {
      operands.push(tensor === undefined ? undefined : await readOperand(experts[i], tensor, options))
    }
    const sums = matrix(experts.length, (i, j) => pairSums(operands[i], operands[j]))
    total = matrix(experts.length, (i, j) => addSums(total[i][j], sums[i][j]))
    tensors.push({ name, similarity: sums.map((row) => row.map(similarityOf)) })
  }
  return { total: total.map((row) => row.map(similarityOf)), tensors }
}

/** @throws {TritswapError} `input` for two experts that change different tensors: a measured 0 would mean nothing */
function checkOverlap(experts: readonly OpenExpert[]): void {
  const names = experts.map((expert) => new Set(tensorNames([expert])))
  for (const [i, own] of names.entries()) {
    const j = names.findIndex((other) => [...own].every((name) => !other.has(name)))
    if (j < 0) continue
    const [a, b] = [experts[i], experts[j]].map(({ source }) => source.name)
    throw new TritswapError(
      'input',
      `Cannot compare ${a} with ${b}: they have no tensor in common, one changes ${[...own][0]} and the other ${[...names[j]][0]}; compare experts that change the same weights`,
      { fields: { experts: [a, b] } },
    )
  }
}

function matrix<T>(size: number, cell: (i: number, j: number) => T): T[][] {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => cell(i, j)))
}
