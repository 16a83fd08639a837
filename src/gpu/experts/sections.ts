import { wordsFor } from '../../format/bits.ts'
import { golombCode } from '../../format/golomb.ts'
import { type TernarySection, type TernaryTensor, tilingOf } from '../../format/index.ts'

/** Bits of the status word, in the order in which the index passes run. */
export const SECTION_FAILURES = [
  { bit: 1, text: 'the block lengths do not add up to the size of the stream' },
  { bit: 2, text: 'a block has codes that leave it' },
  { bit: 4, text: 'the number of entries is not the one declared' },
] as const

export function blocksOf(tensor: Pick<TernaryTensor, 'shape'>): number {
  return tilingOf(tensor.shape).blocks
}

/** What `Section` in shaders/shared/section.wgsl holds, in words of the arena. */
export interface SectionParams extends Record<string, number> {
  words: number
  word_count: number
  index: number
  blocks: number
  kept: number
  m: number
  low: number
  cut: number
  length_min: number
  length_bits: number
  rows: number
  cols: number
  tile_rows: number
  tile_cols: number
  across: number
  first_block: number
}

/**
 * The table of sections that the index kernels work through.
 * @param base - arena word of the expert, to which `place` is relative
 */
export function sectionParams(
  ternary: readonly {
    tensor: Omit<TernarySection, 'words'> & Pick<TernaryTensor, 'shape' | 'bytes'>
    place: { words: number; index: number }
  }[],
  base: number,
): SectionParams[] {
  let firstBlock = 0
  return ternary.map(({ tensor, place }) => {
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(tensor.shape)
    const { m, low, cut } = golombCode(tensor.m)
    firstBlock += blocks
    return {
      words: base + place.words - wordsFor(blocks * tensor.lengthBits),
      word_count: tensor.bytes / 4,
      index: base + place.index,
      blocks,
      kept: tensor.kept,
      m,
      low,
      cut,
      length_min: tensor.lengthMin,
      length_bits: tensor.lengthBits,
      rows,
      cols,
      tile_rows: tileRows,
      tile_cols: tileCols,
      across,
      first_block: firstBlock - blocks,
    }
  })
}
