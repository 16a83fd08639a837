import { wordsFor } from '../../../src/format/bits.ts'
import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { Cursor } from './golomb.ts'
import { BAD_ENTRIES, fail, type Status } from './index_offsets.ts'
import { INDEX_WORDS, type Lanes, POSITIONS } from './lanes.ts'

/** Twin of shaders/index_blocks.wgsl, over all blocks. */
export function indexBlocks(
  sections: readonly SectionParams[],
  arena: Uint32Array,
  status: Status,
  lanes: Lanes,
): void {
  const indexWords = INDEX_WORDS[lanes]
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
      const at = section.index + indexWords * block
      const cursor = new Cursor(
        arena,
        { words, m: section.m, low: section.low, cut: section.cut },
        arena[at],
        arena[at + indexWords],
      )
      const points = [{ rank: 0, next: 0, bit: cursor.bit }]
      let last = points[0]
      let sound = true
      while (cursor.more && sound) {
        if (!cursor.step()) continue
        sound = cursor.position < height * width
        while (points.length < lanes && cursor.position >= points.length * POSITIONS[lanes]) points.push(last)
        last = { rank: last.rank + 1, next: cursor.next, bit: cursor.bit }
      }
      const entries = last.rank
      while (points.length < lanes) points.push(last)
      if (lanes > 1) arena[at + 9] = 0
      for (const [k, { rank, next, bit }] of points.entries()) {
        if (k === 0) continue
        const excess = bit - points[0].bit - rank * (section.low + 2)
        arena[at + 1 + k] = rank | (next << 12) | (excess << 24)
        arena[at + 9] |= (excess >> 8) << (4 * (k - 1))
      }
      arena[at + 1] = entries
      if (!sound || cursor.bit !== cursor.end) fail(status, i, BAD_ENTRIES)
    }
  }
}
