import { type NBits, type NBitsWords, nbitsReader } from './nbits.ts'

/** `GatherNBits` of shaders/gather_nbits.wgsl. */
export interface GatherNBits {
  nbits: NBits
  rows: readonly number[]
  cols: readonly number[]
  first: number
}

/** Twin of shaders/gather_nbits.wgsl. */
export function gatherNBits(
  { nbits, rows, cols, first }: GatherNBits,
  words: NBitsWords,
  values: Float32Array,
): void {
  const weight = nbitsReader(nbits, words)
  for (const [i, row] of rows.entries()) values[first + i] = weight(row, cols[i])
}
