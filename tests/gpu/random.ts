import type { TernaryEntries } from '../../src/format/index.ts'

/** xorshift32: the same cases on every machine. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1
  }

  bits(): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return state >>> 0
  }

  unit(): number {
    return this.bits() / 2 ** 32
  }

  /** From `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + (this.bits() % (most - least + 1))
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.bits() % choices.length]
  }

  floats(count: number, size = 0.05): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => (this.unit() - 0.5) * 2 * size)
  }
}

/** Entries kept with probability `density`. */
export function randomEntries(weights: number, density: number, random: Random): TernaryEntries {
  const kept: number[] = []
  for (let i = 0; i < weights; i++) if (random.unit() < density) kept.push(i)
  return { indices: Uint32Array.from(kept), negative: Uint8Array.from(kept, () => random.bits() >>> 31) }
}
