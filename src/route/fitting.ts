/**
 * From a route to an expert that can be had: the best of those that fit, and which one to fetch ahead.
 *
 * @module
 */
import { isTritswapError } from '../errors.ts'
import type { RegistryEntry } from '../source/registry.ts'
import type { OpenRegistry } from './open_registry.ts'
import type { Route } from './route.ts'

/** What a guess may cost: an expert with more bytes is fetched when it is asked for. */
const AHEAD_BYTES = 4 << 20

/** The best expert that fits and can be had. */
export interface Obtained<T> {
  /** Undefined where the base answers. */
  expert: T | undefined
  entry: RegistryEntry | undefined
  /** Who fits better and is out of reach. */
  missed: string | undefined
  /** Who answers and why, in plain words. */
  why: string
}

/**
 * Tries those that fit, the best first, and passes over what is out of reach: on a line that is down, what is kept here is
 * found.
 * @throws what `obtain` throws, unless no server answered
 */
export async function obtainBest<T>(
  route: Route,
  registry: OpenRegistry,
  obtain: (entry: RegistryEntry) => Promise<T>,
  signal?: AbortSignal,
): Promise<Obtained<T>> {
  let missed: string | undefined
  for (const { id, label, score } of route.ranking) {
    if (score < route.threshold) break
    try {
      const entry = await registry.entry(id, signal)
      if (entry.withdrawn !== undefined) continue
      return { expert: await obtain(entry), entry, missed, why: reason(route, missed, entry) }
    } catch (error) {
      if (!isOutOfReach(error)) throw error
      missed ??= label ?? id
    }
  }
  return { expert: undefined, entry: undefined, missed, why: reason(route, missed, undefined) }
}

/**
 * The likely next one: who came second, if that one fits as well and is not another compression of what was chosen.
 * @param bytes - that it may have
 */
export async function likelyNext(
  route: Route,
  registry: OpenRegistry,
  chosen: string | undefined,
  bytes = AHEAD_BYTES,
): Promise<RegistryEntry | undefined> {
  const best = route.ranking.find(({ id }) => id === chosen)
  for (const { id, score } of route.ranking) {
    if (score < route.threshold) return undefined
    if (id === chosen || score === best?.score) continue
    const entry = await registry.entry(id)
    if (entry.withdrawn === undefined && entry.bytes <= bytes) return entry
  }
  return undefined
}

/** No server answered: another answer may come, but not now. */
function isOutOfReach(error: unknown): boolean {
  return isTritswapError(error, 'network') && error.fields.status === undefined
}

function reason(route: Route, missed: string | undefined, entry: RegistryEntry | undefined): string {
  if (missed === undefined) return route.why
  return `${missed} fits and is out of reach: ${
    entry === undefined ? 'the base answers' : `${entry.label}, which is kept on this device, answers`
  }`
}
