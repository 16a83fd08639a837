/**
 * What the tensors of an expert do to the tensors of a base: the one place that knows what a LoRA pair, an (IA)³ vector
 * or a delta means. The GPU's plan, the bindings, the CPU reference and the checks of a base all read this list.
 *
 * A target is seen as a matrix W of rows × cols (`tilingOf`). What a set of experts contributes to it settles as
 *
 *     W′ = S(W) ⊙ (1 + Σ w·v over rows) ⊙ (1 + Σ w·v over columns) + Σ w·scaling·(left · right) + Σ w·terms + Σ w·delta
 *
 * where w is the weight of each contribution's expert, and S is what steps make of W, W itself without any: first the steps, then the scales, then the low-rank pairs, then the ternary
 * terms, then the deltas, in whatever order the experts and their tensors come. So scales never reach what other experts add, and the scales of
 * one axis add up instead of multiplying. Meanings are those of Hugging Face peft.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { summaryOf } from './codecs/index.ts'
import { overLimit } from './fields.ts'
import { MAX_FREE_RANK, MAX_VIRTUAL_TOKENS } from './limits.ts'
import type { StepUnit } from './steps.ts'
import type { TritTensor } from './table.ts'
import { tilingOf, weightsOf } from './tiling.ts'

/** What says how a tensor acts: the tensors of a table have it, and those that are still to be compressed. */
export type AdapterTensor = Pick<
  TritTensor,
  'name' | 'shape' | 'role' | 'target' | 'scaling' | 'layout' | 'feedforward'
> & {
  /** A delta of this many ternary rank-1 terms. */
  terms?: number
  /** Steps from the target's own values, counted in this type. */
  unit?: StepUnit
}

/** A tensor of a table, and its position there. */
export interface TensorRef<T extends AdapterTensor = TritTensor> {
  index: number
  tensor: T
}

/** The vectors over the rows of a matrix of terms (x), each times its scale, or those over its columns (y). */
export type TermVectors = 'x' | 'y'

/** One factor of a low-rank pair. */
export interface Factor<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  /** The rank runs along its rows, as in LoRA's A [r, in]; along its columns in B [out, r]. */
  rankFirst: boolean
  /** It is one side of a tensor of terms: the vectors over its rows times their scales, or those over its columns. */
  vectors?: TermVectors
}

/** Values that are added to the target, element by element. */
export interface Delta<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  kind: 'delta'
  target: string
  /** As of a pair; undefined for a delta of all modules that share the weight. */
  ofEmbedding?: boolean
}

/**
 * A LoRA pair: scaling · left · right, `left` rows × rank and `right` rank × cols. That is B·A, or (B·A)ᵀ where the
 * module keeps its weight as [in, out]; a factor with the other orientation is read transposed.
 */
export interface LowRank<T extends AdapterTensor = TritTensor> {
  kind: 'lowRank'
  target: string
  left: Factor<T>
  right: Factor<T>
  rank: number
  scaling: number
  /** It belongs to an embedding, and not to an output layer that shares the weight. */
  ofEmbedding: boolean
}

/** A delta as ternary rank-1 terms: Σ scale · x · yᵀ, x over the rows of the target and y over its columns. */
export interface TermsDelta<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  kind: 'terms'
  target: string
  terms: number
  /** As of a delta. */
  ofEmbedding?: boolean
}

/** Steps of the target's weights, each to another value of a float type: the tensor that a fine-tuning made, bit for bit. */
export interface StepsDelta<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  kind: 'steps'
  target: string
  unit: StepUnit
}

/** An (IA)³ vector, stored as l − 1: row r, or column c, is multiplied with 1 + w·v. */
export interface Scale<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  kind: 'scale'
  target: string
  over: 'rows' | 'cols'
  /** As of a pair: the features that are looked up are scaled. */
  ofEmbedding: boolean
  /** The bias of the module, which is scaled along with its outputs; only where the base has one. */
  bias?: Scale<T>
}

/**
 * Virtual tokens: rows that are read before a prompt in place of those of the embedding, or what a layer keeps of tokens, as if
 * they had been read. They change no weight, and act while they are read alone: what follows them reads their keys and values.
 */
export interface VirtualTokens<T extends AdapterTensor = TritTensor> extends TensorRef<T> {
  kind: 'virtual'
  /** The embedding that the ids of a prompt are looked up in, or the input of a graph that takes a layer's keys or values. */
  target: string
  tokens: number
  /** It is keys or values [heads, tokens, size of a head], and no rows [tokens, width]. */
  isCache: boolean
}

/** What changes a weight. */
export type WeightContribution<T extends AdapterTensor = TritTensor> =
  | Delta<T>
  | LowRank<T>
  | TermsDelta<T>
  | StepsDelta<T>
  | Scale<T>

export type Contribution<T extends AdapterTensor = TritTensor> = WeightContribution<T> | VirtualTokens<T>

/** The virtual tokens of an expert: all there is of rows, or the first of its keys and values. */
export function virtualTensorOf<T extends { role: string }>(tensors: readonly T[]): T | undefined {
  return tensors.find(({ role }) => role === 'virtual')
}

/** How many tokens an expert puts before a prompt. */
export function virtualTokensOf(tensors: readonly Pick<AdapterTensor, 'role' | 'shape'>[]): number {
  const shape = virtualTensorOf(tensors)?.shape
  return shape === undefined ? 0 : tokensIn(shape)
}

/** Whether virtual tokens are keys or values. */
export function isCache({ shape }: Pick<AdapterTensor, 'shape'>): boolean {
  return shape.length === 3
}

function tokensIn(shape: readonly number[]): number {
  return isCache({ shape }) ? shape[1] : shape[0]
}

/** Terms as a low-rank pair: the matrix is left · right. */
export function pairOfTerms({ index, tensor, terms }: TermsDelta): Pick<LowRank, 'left' | 'right' | 'rank'> {
  const side = (vectors: TermVectors): Factor => ({ index, tensor, rankFirst: true, vectors })
  return { left: side('x'), right: side('y'), rank: terms }
}

/** Which factor of a LoRA pair a tensor is. */
export function factorOf({ role }: Pick<AdapterTensor, 'role'>): 'a' | 'b' | undefined {
  return role === 'loraA' ? 'a' : role === 'loraB' ? 'b' : undefined
}

/**
 * The layout that makes a tensor another one than its namesake of the same shape. A delta lies as its target does,
 * whatever it says; only beside an output layer that shares the weight is that of the embedding its own.
 */
export function layoutOf({ role, layout }: Pick<AdapterTensor, 'role' | 'layout'>): AdapterTensor['layout'] {
  return role === 'delta' && layout !== 'embedding' ? undefined : layout
}

/** Whether a tensor adds to its target, by itself or as a factor; a scale multiplies it. */
export function isAddition({ role }: Pick<AdapterTensor, 'role'>): boolean {
  return role !== 'ia3' && role !== 'virtual'
}

/** Whether a contribution changes every weight of its target, so that the whole tensor has to be saved. */
export function isWholeTensor({ kind }: Contribution<AdapterTensor>): boolean {
  return kind !== 'delta' && kind !== 'steps'
}

/** Whether a contribution is one tensor with the shape of its target, which the checkpoint has under that name. */
export function isAsTarget<T extends AdapterTensor>(
  contribution: Contribution<T>,
): contribution is Delta<T> | TermsDelta<T> | StepsDelta<T> {
  const { kind } = contribution
  return kind === 'delta' || kind === 'terms' || kind === 'steps'
}

/** The tensors that a contribution is made of. */
export function tensorsOf<T extends AdapterTensor>(contribution: Contribution<T>): readonly TensorRef<T>[] {
  return contribution.kind === 'lowRank' ? [contribution.left, contribution.right] : [contribution]
}

/**
 * What a table's tensors contribute, in table order; a pair comes where its second factor stands.
 * @param tensors - of one expert, their targets renamed or not
 * @param has - whether the base has a tensor, so that it can be scaled along
 * @throws {TritswapError} `format` for half a LoRA pair or a factor too many
 */
export function contributionsOf<T extends AdapterTensor>(
  tensors: readonly T[],
  has: (tensor: string) => boolean = () => false,
): Contribution<T>[] {
  const contributions: Contribution<T>[] = []
  const pairs = new Map<string, Partial<Record<'loraA' | 'loraB', TensorRef<T>>>>()
  for (const [index, tensor] of tensors.entries()) {
    const { target, role, name, layout } = tensor
    if (role === 'delta') {
      const module = layout === undefined ? {} : { ofEmbedding: layout === 'embedding' }
      const { terms, unit } = tensor
      if (unit !== undefined) {
        contributions.push({ kind: 'steps', target, index, tensor, unit })
        continue
      }
      const delta = { target, index, tensor, ...module }
      contributions.push(
        terms === undefined ? { kind: 'delta', ...delta } : { kind: 'terms', terms, ...delta },
      )
      continue
    }
    if (role === 'virtual') {
      contributions.push(virtualOf({ index, tensor }))
      continue
    }
    if (role === 'ia3') {
      contributions.push(scaleOf({ index, tensor }, has))
      continue
    }
    // An embedding and the output layer that shares its weight may have a pair each.
    const key = `${target} ${layout === 'embedding'}`
    const pair = pairs.get(key) ?? {}
    if (pair[role] !== undefined) {
      const fields = { tensor: name, target }
      throw new TritswapError('format', `Cannot use ${name}: ${target} has a ${role} already`, { fields })
    }
    pair[role] = { index, tensor }
    pairs.set(key, pair)
    const { loraA, loraB } = pair
    if (loraA !== undefined && loraB !== undefined) contributions.push(lowRankOf(loraA, loraB))
  }
  checkVirtual(
    contributions.filter((contribution) => contribution.kind === 'virtual'),
    tensors.length,
  )
  for (const { loraA, loraB } of pairs.values()) {
    if (loraA !== undefined && loraB !== undefined) continue
    const { name, target } = (loraA ?? loraB)!.tensor
    throw new TritswapError('format', `Cannot use ${name}: the other factor for ${target} is missing`, {
      fields: { tensor: name, target },
    })
  }
  return contributions
}

/**
 * They act before a prompt, and what changes weights on it.
 * @param count - of all tensors
 * @throws {TritswapError} `format` for virtual tokens beside others, or of several numbers
 */
function checkVirtual<T extends AdapterTensor>(virtual: readonly VirtualTokens<T>[], count: number): void {
  const [first] = virtual
  if (first === undefined) return
  const { name } = first.tensor
  const targets = new Set(virtual.map(({ target }) => target))
  const areAlone = first.isCache
    ? virtual.every(({ isCache, tokens }) => isCache && tokens === first.tokens) && targets.size === count
    : count === 1
  if (areAlone) return
  throw new TritswapError(
    'format',
    `Cannot use ${name}: expected virtual tokens alone, as one matrix of rows or as keys and values of one number of tokens, found ${count} tensors`,
    { fields: { tensor: name } },
  )
}

/** @throws {TritswapError} `format` for another shape; `limit` for too many */
function virtualOf<T extends AdapterTensor>(ref: TensorRef<T>): VirtualTokens<T> {
  const { name, target, shape, terms } = ref.tensor
  if ((shape.length !== 2 && shape.length !== 3) || terms !== undefined) {
    throw new TritswapError(
      'format',
      `Cannot use ${name}: expected virtual tokens as rows of a matrix, or as keys or values of heads, found ${terms === undefined ? times(shape) : 'terms'}`,
      { fields: { tensor: name, shape } },
    )
  }
  const tokens = tokensIn(shape)
  if (tokens > MAX_VIRTUAL_TOKENS) throw overLimit(`virtual tokens of ${name}`, tokens, MAX_VIRTUAL_TOKENS)
  return { kind: 'virtual', target, tokens, isCache: isCache(ref.tensor), ...ref }
}

/** Modules that keep their weight as [in, out]: transformers' Conv1D, and embeddings. */
function isTransposed({ layout }: AdapterTensor): boolean {
  return layout === 'conv1d' || layout === 'embedding'
}

function lowRankOf<T extends AdapterTensor>(a: TensorRef<T>, b: TensorRef<T>): LowRank<T> {
  const { target, scaling = 1, layout } = b.tensor
  const [first, second] = [
    { ...a, rankFirst: true },
    { ...b, rankFirst: false },
  ]
  const [left, right] = isTransposed(b.tensor) ? [first, second] : [second, first]
  const { rows: rank } = tilingOf(a.tensor.shape)
  return { kind: 'lowRank', target, left, right, rank, scaling, ofEmbedding: layout === 'embedding' }
}

/** (IA)³ scales the outputs of a module with its bias, or with `feedforward` its inputs. */
function scaleOf<T extends AdapterTensor>(ref: TensorRef<T>, has: (tensor: string) => boolean): Scale<T> {
  const { target, layout, feedforward = false } = ref.tensor
  const over = feedforward === isTransposed(ref.tensor) ? 'rows' : 'cols'
  const scale: Scale<T> = { kind: 'scale', target, ...ref, over, ofEmbedding: layout === 'embedding' }
  const bias = target.replace(/\.weight$/, '.bias')
  // A vector is a matrix of one row.
  if (!feedforward && bias !== target && has(bias))
    scale.bias = { kind: 'scale', target: bias, ...ref, over: 'cols', ofEmbedding: false }
  return scale
}

/** Rows or columns of a target that one value scales: an input channel of a convolution is height × width columns. */
export function scaleGroup(over: Scale['over'], shape: readonly number[]): number {
  return over === 'cols' ? weightsOf(shape.slice(2)) : 1
}

/** Why a contribution is not for a target of some shape. */
export interface Misfit<T extends AdapterTensor = TritTensor> {
  tensor: T
  expected: string
  found: string
}

/** Why a contribution cannot be one to a target of this shape; undefined where it can. */
export function misfitOf<T extends AdapterTensor>(
  contribution: Contribution<T>,
  shape: readonly number[],
): Misfit<T> | undefined {
  const { rows, cols } = tilingOf(shape)
  if (isAsTarget(contribution)) {
    const { tensor, target } = contribution
    if (tensor.shape.join() === shape.join()) return undefined
    return { tensor, expected: `the shape ${times(shape)} of ${target}`, found: times(tensor.shape) }
  }
  if (contribution.kind === 'virtual') {
    const { tensor, target, isCache } = contribution
    const [heads, , size] = tensor.shape
    if (isCache ? heads === shape[0] && size === shape[2] : tensor.shape[1] === cols) return undefined
    const expected = isCache
      ? `${shape[0]} heads of ${shape[2]} as ${target} takes`
      : `rows of ${cols} as ${target} has`
    return { tensor, expected, found: times(tensor.shape) }
  }
  if (contribution.kind === 'scale') {
    const { tensor, over } = contribution
    const length = weightsOf(tensor.shape)
    const expected = (over === 'rows' ? rows : cols) / scaleGroup(over, shape)
    if (length === expected) return undefined
    return { tensor, expected: `a vector of ${expected}`, found: `${length}` }
  }
  const factors = [contribution.left, contribution.right].map(({ tensor, rankFirst }) => {
    const matrix = tilingOf(tensor.shape)
    return rankFirst ? { rank: matrix.rows, size: matrix.cols } : { rank: matrix.cols, size: matrix.rows }
  })
  const [left, right] = factors
  if (left.rank === right.rank && left.size === rows && right.size === cols) return undefined
  const ranks = left.rank === right.rank ? `rank ${left.rank}` : `ranks ${left.rank} and ${right.rank}`
  return {
    tensor: (contribution.left.rankFirst ? contribution.right : contribution.left).tensor,
    expected: `factors of a ${rows} × ${cols} weight`,
    found: `${left.size} × ${right.size} of ${ranks}`,
  }
}

/** @throws {TritswapError} `base` where a contribution is for a target of another shape */
export function checkFit(contribution: Contribution, shape: readonly number[]): void {
  const misfit = misfitOf(contribution, shape)
  if (misfit === undefined) return
  const { tensor, expected, found } = misfit
  throw new TritswapError(
    'base',
    `Cannot apply ${tensor.name}: expected ${expected}, found ${found}; the expert is for another base`,
    { fields: { tensor: tensor.name, target: contribution.target, expected, found } },
  )
}

/** @throws {TritswapError} `limit` for a pair whose rank says more than its factors: its work would have no bound */
export function checkRank(contribution: Contribution): void {
  if (contribution.kind !== 'lowRank') return
  const { left, right, rank, target } = contribution
  const sizes = [left, right].map(({ tensor }) => weightsOf(tensor.shape) / rank)
  const entries = [left, right].map(({ tensor }) => summaryOf(tensor).kept)
  const limit = Math.max(MAX_FREE_RANK, Math.min(...sizes, ...entries))
  if (rank <= limit) return
  throw new TritswapError(
    'limit',
    `Cannot use ${left.tensor.name}: expected a rank of at most ${limit} for factors of ${sizes.join(' and ')} with ${entries.join(' and ')} entries, found ${rank}; compress the adapter with a lower rank`,
    { fields: { tensor: left.tensor.name, target, rank, limit } },
  )
}

/**
 * @param count - of contributions of steps to a target
 * @throws {TritswapError} `unsupported` for steps of several experts
 */
export function checkSteps(target: string, count: number): void {
  if (count <= 1) return
  throw new TritswapError(
    'unsupported',
    `Cannot blend ${count} lossless experts on ${target}: each counts from the base's own weights, so their steps do not add up; activate one of them, or compress the others without --lossless`,
    { fields: { target, experts: count } },
  )
}

function times(sizes: readonly number[]): string {
  return sizes.join(' × ')
}
