import { isTritswapError } from '../errors.ts'

/** Ids of the experts that must be loaded again before they can be activated, if that is what went wrong. */
export function isEvicted(error: unknown): string[] | undefined {
  return isTritswapError(error, 'released') && Array.isArray(error.fields.evicted)
    ? (error.fields.evicted as string[])
    : undefined
}
