import { TritswapError } from '../errors.ts'
import type { StoredTensor } from './safetensors.ts'

/** The error for a module that the base does not have in that size. */
export function noTarget(
  path: string,
  shape: readonly (number | string)[],
  base: string,
  found: StoredTensor | undefined,
): TritswapError {
  return new TritswapError(
    'base',
    `Cannot compress what is trained for ${path}: expected a weight of shape [${shape}] in ${base}, found ${found === undefined ? 'none' : `${found.name} [${found.shape}]`}; give the base that the adapter was trained on, or leave it out with --exclude`,
    { fields: { module: path, shape, found: found?.shape } },
  )
}
