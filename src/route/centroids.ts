/**
 * What is stored of an expert's requests: up to eight centroids of 240 bytes each. A value of a centroid is a sign
 * and a magnitude of one bit; only its direction counts.
 *
 * @module
 */
import { atOnce } from '../async/in_steps.ts'
import { GENERAL_REQUESTS } from './general.ts'
import { DIMS, embed, normalized } from './space.ts'

/** Centroids of one expert, at most. */
export const MAX_CENTROIDS = 8

/** Words that hold one bit of each value of a centroid. */
export const PLANE_WORDS = DIMS / 32

/** Requests of one expert that are read, evenly spread over those given. */
const READ_SAMPLES = 512

/** Rounds of k-means: the assignments hardly change after these. */
const ROUNDS = 8

/** Where a magnitude is the larger of the two, in standard deviations of the values. */
const LARGE = 1

/** A centroid: bit i of each belongs to value i; `PLANE_WORDS` words each. */
export interface Centroid {
  /** 1 where a value is negative. */
  signs: Uint32Array
  /** 1 where a value is large: it counts three times as much. */
  magnitudes: Uint32Array
}

interface General {
  mean: Float32Array
  /** Relative to the mean, each of length 1. */
  requests: Float32Array[]
}

let general: General | undefined

/** What requests have in common whatever they are about, and each of the general ones. Computed once. */
function* generalRequests(): Generator<void, General> {
  if (general !== undefined) return general
  const vectors: Float32Array[] = []
  for (const request of GENERAL_REQUESTS) {
    vectors.push(embed(request))
    yield
  }
  const mean = new Float32Array(DIMS)
  for (const vector of vectors) for (let i = 0; i < DIMS; i++) mean[i] += vector[i] / vectors.length
  general = { mean, requests: vectors.map((vector) => relativeTo(mean, vector)) }
  return general
}

/** Where a text lies: its vector relative to what all requests have in common, of length 1. */
export function positionOf(text: string): Float32Array {
  return atOnce(positioned(text))
}

/** The same, in steps. */
export function* positioned(text: string): Generator<void, Float32Array> {
  const { mean } = yield* generalRequests()
  return relativeTo(mean, embed(text))
}

/** Cosine between a position and the general request that is nearest to it. */
export function nearestGeneral(position: Float32Array): number {
  return Math.max(...atOnce(generalRequests()).requests.map((request) => dot(request, position)))
}

/**
 * Centroids of the requests of one expert; of a few, each of them. The same requests give the same centroids.
 * @returns at most `MAX_CENTROIDS`; none where there are no requests
 */
export function centroidsOf(samples: readonly string[]): Centroid[] {
  const given = [...new Set(samples.map((text) => text.trim()).filter(Boolean))]
  const step = Math.max(1, given.length / READ_SAMPLES)
  const read = Array.from(
    { length: Math.min(given.length, READ_SAMPLES) },
    (_, i) => given[Math.floor(i * step)]!,
  )
  return kMeans(read.map(positionOf)).map(quantized)
}

/** k-means by cosine. The first centres are far from each other: each is the position that the others are farthest from. */
function kMeans(positions: readonly Float32Array[]): Float32Array[] {
  if (positions.length <= MAX_CENTROIDS) return [...positions]
  let centres = farApart(positions)
  for (let round = 0; round < ROUNDS; round++) {
    const sums = centres.map(() => new Float32Array(DIMS))
    for (const position of positions) {
      const sum = sums[nearestOf(centres, position).at]!
      for (let i = 0; i < DIMS; i++) sum[i] += position[i]
    }
    centres = sums.map((sum, at) => (sum.some((value) => value !== 0) ? normalized(sum) : centres[at]!))
  }
  return centres
}

/**
 * Drawn by a fixed seed, with a probability that grows with the distance to those drawn before. Always taking the farthest would
 * make clusters of outliers.
 */
function farApart(positions: readonly Float32Array[]): Float32Array[] {
  const random = draws(positions.length)
  const centres = [positions[Math.floor(random() * positions.length)]!]
  const distances = positions.map((position) => 1 - dot(position, centres[0]!))
  while (centres.length < MAX_CENTROIDS) {
    let rest = random() * distances.reduce((sum, distance) => sum + Math.max(0, distance), 0)
    let at = -1
    while (at < positions.length - 1 && rest >= 0) rest -= Math.max(0, distances[++at]!)
    const centre = positions[at]!
    centres.push(centre)
    for (const [i, position] of positions.entries())
      distances[i] = Math.min(distances[i]!, 1 - dot(position, centre))
  }
  return centres
}

/** A linear congruential generator, from 0 to 1. */
function draws(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return (state >>> 0) / 2 ** 32
  }
}

function nearestOf(
  centres: readonly Float32Array[],
  position: Float32Array,
): { at: number; similarity: number } {
  let best = { at: 0, similarity: -Infinity }
  for (const [at, centre] of centres.entries()) {
    const similarity = dot(centre, position)
    if (similarity > best.similarity) best = { at, similarity }
  }
  return best
}

function quantized(centre: Float32Array): Centroid {
  const signs = new Uint32Array(PLANE_WORDS)
  const magnitudes = new Uint32Array(PLANE_WORDS)
  const large = LARGE * Math.sqrt(dot(centre, centre) / DIMS)
  for (let i = 0; i < DIMS; i++) {
    const bit = 1 << (i & 31)
    if (centre[i] < 0) signs[i >>> 5] |= bit
    if (Math.abs(centre[i]) > large) magnitudes[i >>> 5] |= bit
  }
  return { signs, magnitudes }
}

function relativeTo(mean: Float32Array, vector: Float32Array): Float32Array {
  return normalized(vector.map((value, i) => value - mean[i]!))
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < DIMS; i++) sum += a[i] * b[i]
  return sum
}
