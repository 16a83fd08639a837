import { fieldAt, wordsFor } from '../../../src/format/bits.ts'
import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { INDEX_WORDS, type Lanes } from './lanes.ts'

export const { BAD_LENGTHS, BAD_ENTRIES, BAD_COUNT } = shaderConstants('section', [
  'BAD_LENGTHS',
  'BAD_ENTRIES',
  'BAD_COUNT',
])

/** What the index passes report: kinds of failure seen, and the first section that has one. */
export type Status = Uint32Array

export function fail(status: Status, section: number, kind: number): void {
  status[0] |= kind
  status[1] = Math.min(status[1], section)
}

/** Twin of shaders/index_offsets.wgsl. */
export function indexOffsets(
  sections: readonly SectionParams[],
  arena: Uint32Array,
  status: Status,
  lanes: Lanes,
): void {
  const indexWords = INDEX_WORDS[lanes]
  for (const [i, section] of sections.entries()) {
    const lengthWords = wordsFor(section.blocks * section.length_bits)
    const room = 32 * (section.word_count - lengthWords)
    const lengths = arena.subarray(section.words)
    let total = 0
    for (let block = 0; block < section.blocks; block++) {
      arena[section.index + indexWords * block] = total
      const length = section.length_min + fieldAt(lengths, block, section.length_bits)
      total = Math.min(total + length, room + 1)
    }
    arena[section.index + indexWords * section.blocks] = total
    if (total > room || wordsFor(total) + lengthWords !== section.word_count) fail(status, i, BAD_LENGTHS)
  }
}
