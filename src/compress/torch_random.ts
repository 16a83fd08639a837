/**
 * Random numbers as torch draws them on a CPU, bit for bit: methods that store a seed in place of positions depend on it.
 *
 * @module
 */

const SIZE = 624
const SHIFT = 397

/** The generator of `torch.Generator().manual_seed(seed)`: mt19937 with the lower 32 bits of the seed. */
class TorchGenerator {
  readonly #state = new Uint32Array(SIZE)
  #at = SIZE

  constructor(seed: number) {
    const state = this.#state
    state[0] = Number(BigInt.asUintN(32, BigInt(seed)))
    for (let i = 1; i < SIZE; i++) {
      const previous = state[i - 1] ^ (state[i - 1] >>> 30)
      state[i] = Math.imul(1812433253, previous) + i
    }
  }

  /** The next 32 bits. */
  next(): number {
    if (this.#at === SIZE) this.#refill()
    let word = this.#state[this.#at++]
    word ^= word >>> 11
    word ^= (word << 7) & 0x9d2c5680
    word ^= (word << 15) & 0xefc60000
    word ^= word >>> 18
    return word >>> 0
  }

  #refill(): void {
    const state = this.#state
    for (let i = 0; i < SIZE; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff)
      state[i] = state[(i + SHIFT) % SIZE] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0)
    }
    this.#at = 0
  }
}

/** From this many on, `torch.randperm` draws in another way. */
export const MAX_PERMUTED = Math.floor(0xffffffff / 20)

/**
 * The first `count` of `torch.randperm(n, generator=torch.Generator().manual_seed(seed))`.
 * @param n - under {@link MAX_PERMUTED}
 */
export function firstOfPermutation(n: number, count: number, seed: number): Uint32Array {
  const generator = new TorchGenerator(seed)
  /** What is not at its own place. */
  const moved = new Map<number, number>()
  const first = new Uint32Array(count)
  for (let i = 0; i < count; i++) {
    // The last place has nothing left to be exchanged with, and draws nothing.
    const from = i < n - 1 ? i + (generator.next() % (n - i)) : i
    first[i] = moved.get(from) ?? from
    moved.set(from, moved.get(i) ?? i)
    moved.delete(i)
  }
  return first
}
