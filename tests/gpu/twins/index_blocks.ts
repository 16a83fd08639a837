import { wordsFor } from '../../../src/format/bits.ts'
import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { Cursor } from './golomb.ts'
import { BAD_ENTRIES, fail, type Status } from './index_offsets.ts'

/** Twin of shaders/index_blocks.wgsl, over all blocks. */
export function indexBlocks(sections: readonly SectionParams[], arena: Uint32Array, status: Status): void {
  if (status[0] !== 0) return
  for (const [i, section] of sections.entries()) {
    const words = section.words + wordsFor(section.blocks * section.length_bits)
    for (let block = 0; block < section.blocks; block++) {
      const band = Math.floor(block / section.across)
      const height = Math.min(section.tile_rows, section.rows - band * section.tile_rows)
      const width = Math.min(
        section.tile_cols,
        section.cols - (block - band * section.across) * section.tile_cols,
      )
      const at = section.index + 2 * block
      const cursor = new Cursor(
        arena,
        { words, m: section.m, low: section.low, cut: section.cut },
        arena[at],
        arena[at + 2],
      )
      let entries = 0
      let sound = true
      while (cursor.more && sound) {
        if (!cursor.step()) continue
        sound = cursor.position < height * width
        entries++
      }
      arena[at + 1] = entries
      if (!sound || cursor.bit !== cursor.end) fail(status, i, BAD_ENTRIES)
    }
  }
}
