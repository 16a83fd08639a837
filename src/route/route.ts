/**
 * Which of several experts a text is for, if any of them: by its likeness to the requests that each was made for.
 *
 * @module
 */

import { type CentroidTable, centroidTable, nearestCentroids } from './centroid_table.ts'
import { centroidsOf, nearestGeneral, positionOf } from './centroids.ts'

/**
 * Over this score an expert is chosen. Chosen on the `valid` requests of fourteen skills and on 158 requests that no
 * expert answers (`bench/route`); `docs/ROUTING.md` has what it gives on those that had no part in it.
 */
export const THRESHOLD = 0.04

/** How much of its likeness to a general request a text loses. */
const GENERAL_WEIGHT = 0.7

/** What routing needs of an expert. A registry entry will do. */
export interface Routable {
  id: string
  label?: string
  /** Requests that it was made for. */
  samples?: readonly string[]
  /** Stands in for requests where there are none. */
  prompt?: string
  /** Why it must not be used any more. */
  withdrawn?: string
}

/** An expert in the order of a route. */
export interface Ranked {
  id: string
  label?: string
  /** Over the threshold, the text is for it. From −1.7 to 1.7; 0.2 and more is certain. */
  score: number
  /** Cosine with the nearest centroid of its requests. */
  similarity: number
}

/** What came of a route. */
export interface Route {
  /** The expert that the text is for; undefined for none, which leaves it to the base. */
  chosen: Ranked | undefined
  /** The experts that come nearest, the best first; at most 16. */
  ranking: Ranked[]
  /** Cosine with the nearest of the requests that need no expert. */
  general: number
  threshold: number
  /** The choice in plain words. */
  why: string
}

/** Signs alone are like nothing. */
const HAS_WORDS = /[\p{L}\p{N}]/u

/** Experts that a ranking names, at most. */
const RANKED = 16

/** Who the owners of centroids are. */
export interface RoutedNames {
  table: CentroidTable
  idOf(owner: number): string
  labelOf(owner: number): string | undefined
  /** Left out. */
  isWithdrawn?(owner: number): boolean
}

/** Routes among a few experts by their samples. */
export function routeAmong(text: string, experts: readonly Routable[], threshold = THRESHOLD): Route {
  const usable = experts.filter(({ withdrawn }) => withdrawn === undefined)
  const table = centroidTable(
    usable.map(({ samples, prompt }) => centroidsOf(samples ?? (prompt ? [prompt] : []))),
  )
  return routeIn(
    text,
    { table, idOf: (owner) => usable[owner]!.id, labelOf: (owner) => usable[owner]!.label },
    threshold,
  )
}

/** Routes among the owners of a table of centroids. */
export function routeIn(text: string, names: RoutedNames, threshold = THRESHOLD): Route {
  const position = positionOf(text)
  const general = nearestGeneral(position)
  const best = new Map<number, number>()
  for (const { centroid, similarity } of nearestCentroids(names.table, position)) {
    const owner = names.table.owners[centroid]!
    if (!best.has(owner) && names.isWithdrawn?.(owner) !== true) best.set(owner, similarity)
    if (best.size === RANKED) break
  }
  const ranking = Array.from(
    best,
    ([owner, similarity]): Ranked => ({
      id: names.idOf(owner),
      label: names.labelOf(owner),
      similarity,
      score: similarity - GENERAL_WEIGHT * general,
    }),
  )
  const [first] = ranking
  const fits = first !== undefined && first.score >= threshold && HAS_WORDS.test(text)
  const chosen = fits ? first : undefined
  return { chosen, ranking, general, threshold, why: reason(first, chosen, general) }
}

function reason(first: Ranked | undefined, chosen: Ranked | undefined, general: number): string {
  if (first === undefined) return 'No expert says what it is for'
  const name = first.label ?? first.id
  const like = `${percent(first.similarity)} like what ${name} was made for, ${percent(general)} like a general request`
  return chosen === undefined ? `None fits: ${like}` : `${name}: ${like}`
}

function percent(cosine: number): string {
  return `${Math.round(100 * Math.max(0, cosine))} %`
}
