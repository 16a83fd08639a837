import { isTritswapError, TritswapError } from '../errors.ts'

/** What a call that names evicted experts fails with, whichever thread it fails on. */
export function evictedError(ids: readonly string[]): TritswapError {
  return new TritswapError('released', `Cannot activate ${ids.join(', ')}: evicted from VRAM, load again`, {
    fields: { evicted: ids },
  })
}

/** Ids of the experts that must be loaded again, if that is what an error says. */
export function evictedIn(error: unknown): readonly string[] | undefined {
  return isTritswapError(error, 'released') && Array.isArray(error.fields.evicted)
    ? (error.fields.evicted as string[])
    : undefined
}
