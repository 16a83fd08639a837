/** The finalizer of MurmurHash3. */
function mix(value: number): number {
  let h = value
  h ^= h >>> 16
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** Twin of shaders/checksum.wgsl: adds the words of one buffer to two sums. */
export function checksum(words: Uint32Array, seed: number, sums: Uint32Array): void {
  for (const [i, word] of words.entries()) {
    sums[0] += mix(word ^ mix(i ^ seed))
    sums[1] += mix(word ^ mix((i + seed + 0x9e3779b9) | 0))
  }
}
