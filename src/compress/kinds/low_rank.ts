/**
 * LoRA by other names: what is added to a weight is the product of two factors.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { type Matrix, matrix, product, transposedMatrix } from '../matrices.ts'
import { type AdapterKind, type Config, type Module, positionsIn, valuesOf } from './kind.ts'

/** Multiplies the rows of a matrix. */
function scaledRows(of: Matrix, factors: ArrayLike<number>): Matrix {
  return { ...of, values: of.values.map((value, i) => value * factors[Math.floor(i / of.cols)]) }
}

function scaledCols(of: Matrix, factors: ArrayLike<number>): Matrix {
  return { ...of, values: of.values.map((value, i) => value * factors[i % of.cols]) }
}

/** The first rows and columns of a matrix. */
function corner(of: Matrix, rows: number, cols: number): Matrix {
  const out = matrix(rows, cols)
  for (let r = 0; r < rows; r++) out.values.set(of.values.subarray(r * of.cols, r * of.cols + cols), r * cols)
  return out
}

/** AdaLoRA: B · diag(E) · A, over the rank that training began with. */
export const adalora: AdapterKind = {
  label: 'AdaLoRA',
  parts: ['lora_A', 'lora_B', 'lora_E'],
  fields: [
    ...['init_r', 'target_r', 'tinit', 'tfinal', 'deltaT', 'beta1', 'beta2', 'orth_reg_weight', 'total_step'],
    ...[
      'r',
      'lora_alpha',
      'lora_dropout',
      'init_lora_weights',
      'rank_pattern',
      'alpha_pattern',
      'loftq_config',
    ],
    ...['megatron_core', 'qalora_group_size', 'use_rslora'],
  ],
  size: (module) => ({ rows: module.part('lora_B').shape[0], cols: module.part('lora_A').shape[1] }),
  change(module) {
    const rank = module.part('lora_E').shape[0]
    // Training has taken every rank from this module.
    if (rank === 0) return {}
    const a = module.shaped('lora_A', rank, module.cols)
    const b = module.shaped('lora_B', module.rows, rank)
    const e = module.shaped('lora_E', rank, 1)
    const alpha = module.number('lora_alpha')
    const scaling = (alpha > 0 ? alpha : rank) / (module.number('init_r') + 1e-5)
    const factors = async () => ({
      left: scaledCols(await valuesOf(b), new Float64Array(rank).fill(scaling)),
      right: scaledRows(await valuesOf(a), (await valuesOf(e)).values),
    })
    return { weight: { kind: 'product', rank, factors } }
  },
}

function unsavedProjections({ save_projection }: Config): string | undefined {
  return save_projection === false
    ? 'save_projection is false: the file leaves out projections that torch draws from a seed; load it in peft, set save_projection to true, and save it again'
    : undefined
}

/** VeRA: diag(b) · B · diag(d) · A, with B and A of all modules cut to size. */
function veraKind(prefix: 'vera' | 'pvera', label: string): AdapterKind {
  const [sharedA, sharedB] = [`${prefix}_A`, `${prefix}_B`]
  return {
    label,
    parts: [`${prefix}_lambda_b`, `${prefix}_lambda_d`],
    shared: [sharedA, sharedB],
    fields: [
      ...['r', 'projection_prng_key', 'save_projection', `${prefix}_dropout`, 'd_initial', 'init_weights'],
      ...['fan_in_fan_out', 'sample_at_inference', 'generator_seed'],
    ],
    refusal(config) {
      if (config.sample_at_inference === true)
        return 'sample_at_inference is true: its answers are drawn at random'
      return unsavedProjections(config)
    },
    change(module) {
      const b = module.shaped(sharedB, -1, -1)
      const a = module.shaped(sharedA, -1, -1)
      const rank = b.shape[1]
      const { rows, cols } = module
      const outputs = module.shaped(`${prefix}_lambda_b`, rows)
      // Of PVeRA the first half are means; the second, of variances, is for training.
      const ranks = module.shaped(`${prefix}_lambda_d`, prefix === 'vera' ? rank : 2 * rank)
      if (b.shape[0] < rows || a.shape[1] < cols || a.shape[0] < rank) {
        throw new TritswapError(
          'input',
          `Cannot compress what is trained for ${module.path}: expected projections of at least ${rows} × ${rank} and ${rank} × ${cols}, found [${b.shape}] and [${a.shape}]`,
          { fields: { module: module.path } },
        )
      }
      const factors = async () => ({
        left: scaledRows(corner(await valuesOf(b), rows, rank), (await valuesOf(outputs)).values),
        right: scaledRows(corner(await valuesOf(a), rank, cols), (await valuesOf(ranks)).values),
      })
      return { weight: { kind: 'product', rank, factors } }
    },
  }
}

export const vera = veraKind('vera', 'VeRA')
export const pvera = veraKind('pvera', 'PVeRA')

/** RandLoRA: a sum of enough products of fixed random bases to have full rank. */
export const randlora: AdapterKind = {
  label: 'RandLoRA',
  parts: ['randlora_lambda', 'randlora_gamma', 'randlora_A', 'randlora_B'],
  shared: ['randlora_A', 'randlora_B'],
  fields: [
    ...['r', 'randlora_alpha', 'randlora_dropout', 'projection_prng_key', 'save_projection', 'sparse'],
    ...['very_sparse', 'fan_in_fan_out', 'init_weights'],
  ],
  refusal: unsavedProjections,
  change(module) {
    const { rows, cols } = module
    const [small, large] = [Math.min(rows, cols), Math.max(rows, cols)]
    const lambda = module.shaped('randlora_lambda', -1, -1)
    const [rank, bases] = lambda.shape
    const gamma = module.shaped('randlora_gamma', bases, small)
    const a = module.shaped('randlora_A', rank, 1, -1)
    const b = module.shaped('randlora_B', -1, -1, rank)
    if (a.shape[2] < small || b.shape[0] < large || b.shape[1] < bases) {
      throw new TritswapError(
        'input',
        `Cannot compress what is trained for ${module.path}: expected bases for ${rows} × ${cols}, found [${b.shape}] and [${a.shape}]`,
        { fields: { module: module.path } },
      )
    }
    const scaling = module.number('randlora_alpha') / module.number('r')
    const factors = async () => {
      const [l, g, ownA, ownB] = [
        await valuesOf(lambda),
        await valuesOf(gamma),
        await valuesOf(a),
        await valuesOf(b),
      ]
      const right = matrix(rank * bases, small)
      for (let k = 0; k < rank; k++)
        for (let n = 0; n < bases; n++)
          for (let c = 0; c < small; c++)
            right.values[(k * bases + n) * small + c] =
              scaling * l.values[k * bases + n] * ownA.values[k * ownA.cols + c] * g.values[n * small + c]
      const left = corner(ownB, large, bases * rank)
      if (small === cols) return { left, right }
      return { left: transposedMatrix(right), right: transposedMatrix(left) }
    }
    return { weight: { kind: 'product', rank: rank * bases, factors } }
  },
}

/** VB-LoRA: factors put together from a few vectors of a bank that all modules share. */
export const vblora: AdapterKind = {
  label: 'VB-LoRA',
  parts: ['A', 'B'].flatMap((factor) =>
    ['', '_topk_indices', '_topk_weights'].map((what) => `vblora_logits_${factor}${what}`),
  ),
  shared: ['vblora_vector_bank'],
  fields: [
    ...['r', 'num_vectors', 'vector_length', 'topk', 'save_only_topk_weights', 'vblora_dropout'],
    ...['fan_in_fan_out', 'init_vector_bank_bound', 'init_logits_std'],
  ],
  change(module) {
    const bank = module.shaped('vblora_vector_bank', -1, -1)
    const length = bank.shape[1]
    const rank = module.number('r')
    const factors = async () => {
      const vectors = await valuesOf(bank)
      // A is [rank, tiles] of vectors, B [tiles, rank] of them.
      const a = await combined(module, 'A', [rank, module.cols / length], vectors)
      const b = await combined(module, 'B', [module.rows / length, rank], vectors)
      const left = matrix(module.rows, rank)
      for (let row = 0; row < module.rows; row++)
        for (let k = 0; k < rank; k++)
          left.values[row * rank + k] = b[(Math.floor(row / length) * rank + k) * length + (row % length)]
      return { left, right: { rows: rank, cols: module.cols, values: a } }
    }
    return { weight: { kind: 'product', rank, factors } }
  },
}

/** Weighted sums of the bank's vectors, one after another. */
async function combined(
  module: Module,
  factor: 'A' | 'B',
  [rows, cols]: readonly number[],
  bank: Matrix,
): Promise<Float64Array> {
  const name = `vblora_logits_${factor}`
  const out = new Float64Array(rows * cols * bank.cols)
  const add = (at: number, vector: number, weight: number) => {
    for (let i = 0; i < bank.cols; i++)
      out[at * bank.cols + i] += weight * bank.values[vector * bank.cols + i]
  }
  const topk = module.number('topk')
  if (module.has(name)) {
    const { values } = await valuesOf(module.shaped(name, rows, cols, bank.rows))
    for (let at = 0; at < rows * cols; at++) {
      const logits = values.subarray(at * bank.rows, (at + 1) * bank.rows)
      const best = Array.from(logits.keys())
        .sort((x, y) => logits[y] - logits[x])
        .slice(0, topk)
      const exponents = best.map((vector) => Math.exp(logits[vector] - logits[best[0]]))
      const total = exponents.reduce((sum, value) => sum + value, 0)
      for (const [i, vector] of best.entries()) add(at, vector, exponents[i] / total)
    }
    return out
  }
  const indices = await positionsIn(module.shaped(`${name}_topk_indices`, rows, cols, topk))
  // The last weight is what the others leave of 1.
  const weights = await valuesOf(module.shaped(`${name}_topk_weights`, rows, cols, topk - 1))
  for (let at = 0; at < rows * cols; at++) {
    let rest = 1
    for (let i = 0; i < topk; i++) {
      const weight = i < topk - 1 ? weights.values[at * (topk - 1) + i] : rest
      rest -= weight
      const vector = indices[at * topk + i]
      if (vector >= 0 && vector < bank.rows) add(at, vector, weight)
    }
  }
  return out
}

/** DeLoRA: every rank of B · A normalized to one length, over inputs scaled by what the base's columns were. */
export const delora: AdapterKind = {
  label: 'DeLoRA',
  parts: ['delora_A', 'delora_B', 'delora_lambda', 'delora_w_norm'],
  fields: ['r', 'delora_lambda', 'module_dropout', 'init_weights', 'rank_pattern', 'lambda_pattern'],
  size: (module) => ({ rows: module.part('delora_B').shape[0], cols: module.part('delora_A').shape[1] }),
  change(module) {
    const { rows, cols } = module
    const a = module.shaped('delora_A', -1, cols)
    const rank = a.shape[0]
    const b = module.shaped('delora_B', rows, rank)
    const lambda = module.shaped('delora_lambda', 1)
    const norms = module.shaped('delora_w_norm', cols)
    const factors = async () => {
      const [right, left] = [await valuesOf(a), await valuesOf(b)]
      const [strength] = (await valuesOf(lambda)).values
      const scale = Float64Array.from({ length: rank }, (_, k) => {
        let [inA, inB] = [0, 0]
        for (let c = 0; c < cols; c++) inA += right.values[k * cols + c] ** 2
        for (let r = 0; r < rows; r++) inB += left.values[r * rank + k] ** 2
        return strength / rank / (Math.max(Math.sqrt(inA), 1e-4) * Math.max(Math.sqrt(inB), 1e-4))
      })
      return { left: scaledCols(left, scale), right: scaledCols(right, (await valuesOf(norms)).values) }
    }
    return { weight: { kind: 'product', rank, factors } }
  },
}

/** GraLoRA: pairs of each block of the weight, and one of the whole where there is a hybrid rank. */
export const gralora: AdapterKind = {
  label: 'GraLoRA',
  parts: ['gralora_A', 'gralora_B', 'gralora_A_general', 'gralora_B_general'],
  fields: ['r', 'hybrid_r', 'alpha', 'gralora_k', 'gralora_dropout', 'fan_in_fan_out', 'init_weights'],
  change(module) {
    const { rows, cols } = module
    const a = module.shaped('gralora_A', -1, -1, -1)
    const [blocks, width, rank] = a.shape
    const b = module.shaped('gralora_B', blocks, rank, rows / blocks)
    module.shaped('gralora_A', blocks, cols / blocks, rank)
    const hybrid = module.number('hybrid_r')
    const general = hybrid > 0 && {
      a: module.shaped('gralora_A_general', hybrid, cols),
      b: module.shaped('gralora_B_general', rows, hybrid),
    }
    const scaling = module.number('alpha') / (module.number('r') + hybrid)
    const part = Math.floor(rank / blocks)
    const height = rows / blocks
    const all = blocks * blocks * part
    const factors = async () => {
      const [ownA, ownB] = [(await valuesOf(a)).values, (await valuesOf(b)).values]
      const left = matrix(rows, all + hybrid)
      const right = matrix(all + hybrid, cols)
      // The block of outputs `to` and inputs `from` has ranks of its own.
      for (let to = 0; to < blocks; to++)
        for (let from = 0; from < blocks; from++)
          for (let k = 0; k < part; k++) {
            const at = (to * blocks + from) * part + k
            for (let i = 0; i < width; i++)
              right.values[at * cols + from * width + i] = ownA[(from * width + i) * rank + to * part + k]
            for (let o = 0; o < height; o++)
              left.values[(to * height + o) * left.cols + at] =
                scaling * ownB[(to * rank + from * part + k) * height + o]
          }
      if (general) {
        right.values.set((await valuesOf(general.a)).values, all * cols)
        const { values } = await valuesOf(general.b)
        for (let r = 0; r < rows; r++)
          for (let k = 0; k < hybrid; k++)
            left.values[r * left.cols + all + k] = scaling * values[r * hybrid + k]
      }
      return { left, right }
    }
    return { weight: { kind: 'product', rank: all + hybrid, factors } }
  },
}

/** HiRA: the weight times B · A, element by element. */
export const hira: AdapterKind = {
  label: 'HiRA',
  parts: ['hira_A', 'hira_B', 'hira_embedding_A', 'hira_embedding_B'],
  fields: ['r', 'hira_dropout', 'init_weights', 'rank_pattern', 'fan_in_fan_out'],
  change(module) {
    const { rows, cols } = module
    const isEmbedding = module.has('hira_embedding_A')
    const [a, b] = isEmbedding
      ? [module.shaped('hira_embedding_A', -1, rows), module.part('hira_embedding_B')]
      : [module.shaped('hira_A', -1, cols), module.part('hira_B')]
    const rank = a.shape[0]
    module.shaped(isEmbedding ? 'hira_embedding_B' : 'hira_B', isEmbedding ? cols : rows, rank)
    const values = async () => {
      const [down, up, weight] = [await valuesOf(a), await valuesOf(b), await module.weight()]
      const factor = isEmbedding ? product(transposedMatrix(down), transposedMatrix(up)) : product(up, down)
      return { rows, cols, values: factor.values.map((value, i) => value * weight.values[i]) }
    }
    return { weight: { kind: 'delta', values } }
  },
}
