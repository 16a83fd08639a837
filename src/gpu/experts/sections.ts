import { wordsFor } from '../../format/bits.ts'
import type { TernaryCode } from '../../format/codecs/ternary_decode.ts'
import { golombCode } from '../../format/golomb.ts'
import { type TritTensor, tilingOf } from '../../format/index.ts'
import type { StreamSpan } from '../job.ts'
import { shaderConstants } from '../shader_constants.ts'

const { BAD_LENGTHS, BAD_ENTRIES, BAD_COUNT } = shaderConstants('section', [
  'BAD_LENGTHS',
  'BAD_ENTRIES',
  'BAD_COUNT',
])

/** What the bits of the status word mean, in the order in which the index passes run. */
export const SECTION_FAILURES = [
  { bit: BAD_LENGTHS, text: 'the block lengths do not add up to the size of the stream' },
  { bit: BAD_ENTRIES, text: 'a block has codes that leave it' },
  { bit: BAD_COUNT, text: 'the number of entries is not the one declared' },
] as const

/** A tensor whose section is Golomb-coded blocks. */
export type GolombTensor = TernaryCode & Pick<TritTensor, 'shape' | 'bytes'>

/** `Section` of shaders/shared/section.wgsl. */
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
 * The table of sections for the index kernels.
 * @param base - arena word of the expert, to which spans are relative
 */
export function sectionParams(
  streams: readonly {
    tensor: GolombTensor
    span: StreamSpan
  }[],
  base: number,
): SectionParams[] {
  let firstBlock = 0
  return streams.map(({ tensor, span }) => {
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(tensor.shape)
    const { m, low, cut } = golombCode(tensor.m)
    firstBlock += blocks
    return {
      words: base + span.words - wordsFor(blocks * tensor.lengthBits),
      word_count: tensor.bytes / 4,
      index: base + span.index,
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
