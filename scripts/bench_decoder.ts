import { decodeTernary, encodeTernary, type TernaryEntries } from '../src/format/index.ts'

export interface DecoderTiming {
  density: number
  kept: number
  /** Kept entries per second on one core, the best of `runs`: other load only ever slows it down. */
  decodedPerSecond: number
  encodedPerSecond: number
}

/**
 * Times the reference decoder and the encoder on one random matrix per density. Decoding goes to the same arrays
 * again, as a stream of tensors does: fresh memory costs as much as the decoding itself.
 *
 * Run it bundled: a module runner makes calls between modules slow, and the decoder has some in its inner loop.
 */
export function benchDecoder({
  densities = [0.01, 0.05, 0.1, 0.2, 0.5],
  side = 2048,
  runs = 25,
} = {}): DecoderTiming[] {
  const shape = [side, side]
  return densities.map((density) => {
    const entries = randomEntries(side * side, density)
    const kept = entries.indices.length
    const section = encodeTernary(shape, entries)
    const into = decodeTernary(shape, section)
    return {
      density,
      kept,
      decodedPerSecond: kept / fastest(runs, () => decodeTernary(shape, section, into)),
      encodedPerSecond: kept / fastest(runs, () => encodeTernary(shape, entries)),
    }
  })
}

/** Seconds of the fastest of `runs` calls. */
function fastest(runs: number, run: () => unknown): number {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < runs; i++) {
    const start = performance.now()
    run()
    best = Math.min(best, performance.now() - start)
  }
  return best / 1000
}

function randomEntries(weights: number, density: number): TernaryEntries {
  const indices = new Uint32Array(weights)
  const negative = new Uint8Array(weights)
  let count = 0
  for (let i = 0; i < weights; i++) {
    if (Math.random() >= density) continue
    negative[count] = Math.random() < 0.5 ? 1 : 0
    indices[count++] = i
  }
  return { indices: indices.slice(0, count), negative: negative.slice(0, count) }
}
