import { type Blocks, type BlocksWords, blocksOf } from './blocks.ts'

/** `GatherBlocks` of shaders/gather_blocks.wgsl. */
export interface GatherBlocks {
  blocks: Blocks
  rows: readonly number[]
  cols: readonly number[]
  first: number
}

/** Twin of shaders/gather_blocks.wgsl. */
export function gatherBlocks(
  { blocks, rows, cols, first }: GatherBlocks,
  words: BlocksWords,
  values: Float32Array,
): void {
  const weight = blocksOf(blocks, words)
  for (const [i, row] of rows.entries()) values[first + i] = weight(row, cols[i])
}
