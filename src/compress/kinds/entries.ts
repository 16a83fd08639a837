/**
 * Methods that change some entries of a tensor: SHiRA, trainable tokens, BEFT.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { matrix } from '../matrices.ts'
import { type AdapterKind, type Module, positionsIn, valuesOf } from './kind.ts'

/** SHiRA: values at positions that the file holds. */
export const shira: AdapterKind = {
  label: 'SHiRA',
  parts: ['shira_weight', 'shira_indices'],
  fields: ['r', 'mask_type', 'random_seed', 'init_weights', 'fan_in_fan_out'],
  change(module) {
    const { rows, cols } = module
    const tensor = module.shaped('shira_weight', -1)
    const indices = module.shaped('shira_indices', 2, tensor.weights)
    const values = async () => {
      const own = await valuesOf(tensor)
      const at = await positionsIn(indices)
      const out = matrix(rows, cols)
      for (const [i, value] of own.values.entries())
        out.values[placeIn(module, rows, at[i]) * cols + placeIn(module, cols, at[own.cols + i])] += value
      return out
    }
    return { weight: { kind: 'sparse', values } }
  },
}

/** Rows of an embedding that replace the base's. */
export const trainableTokens: AdapterKind = {
  label: 'trainable tokens',
  parts: ['trainable_tokens_delta'],
  followsTies: true,
  fields: ['token_indices', 'init_weights'],
  change(module) {
    const { rows, cols } = module
    const tokens = tokensOf(module)
    const tensor = module.shaped('trainable_tokens_delta', tokens.length, cols)
    const values = async () => {
      const [own, weight] = [await valuesOf(tensor), await module.weight()]
      const out = matrix(rows, cols)
      for (const [i, token] of tokens.entries()) {
        const at = placeIn(module, rows, token) * cols
        for (let c = 0; c < cols; c++) out.values[at + c] = own.values[i * cols + c] - weight.values[at + c]
      }
      return out
    }
    return { weight: { kind: 'sparse', values } }
  },
}

/** The tokens by `token_indices`, or of this module by LoRA's `trainable_token_indices`. */
function tokensOf({ path, config }: Module): number[] {
  const given = config.token_indices ?? config.trainable_token_indices
  const isList = (value: unknown): value is number[] =>
    Array.isArray(value) && value.every((token) => Number.isSafeInteger(token) && token >= 0)
  if (isList(given)) return given
  const lists = Object.entries((given ?? {}) as object)
  const own = lists.find(([module]) => path === module || path.endsWith(`.${module}`))?.[1]
  // A tied output layer goes by the list of the embedding.
  const found = own ?? (lists.length === 1 ? lists[0][1] : undefined)
  if (isList(found)) return found
  throw new TritswapError(
    'input',
    `Cannot compress what is trained for ${path}: expected token_indices in adapter_config.json, found ${JSON.stringify(given)?.slice(0, 60)}`,
    { fields: { module: path } },
  )
}

/** BEFT: something is added to a bias. */
export const beft: AdapterKind = {
  label: 'BEFT',
  parts: ['beft_bias'],
  fields: ['init_weights'],
  change(module) {
    const tensor = module.part('beft_bias')
    return { bias: () => valuesOf(tensor) }
  },
}

/** @throws {TritswapError} `input` for a place outside of the weight */
function placeIn(module: Module, size: number, place: number): number {
  if (place >= 0 && place < size) return place
  throw new TritswapError(
    'input',
    `Cannot compress what is trained for ${module.path}: it changes entry ${place} of ${size}; a vocabulary that was made larger does not fit the exported model`,
    { fields: { module: module.path, place, size } },
  )
}
