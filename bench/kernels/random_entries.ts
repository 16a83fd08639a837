import type { TernaryEntries } from '../../src/format/index.ts'

/** Entries at random positions: each weight is kept with this probability. */
export function randomEntries(weights: number, density: number, seed: number): TernaryEntries {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  // Room for a list of hundreds of millions: a tenth more than what is to be expected, and for chance in short ones.
  const room = Math.min(weights, Math.ceil(1.1 * density * weights) + 4096)
  const indices = new Uint32Array(room)
  const negative = new Uint8Array(room)
  const below = density * 2 ** 32
  let count = 0
  for (let i = 0; i < weights; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    if (state >>> 0 >= below) continue
    indices[count] = i
    negative[count++] = Math.imul(state, 0x2545f491) >>> 31
  }
  return { indices: indices.slice(0, count), negative: negative.slice(0, count) }
}
