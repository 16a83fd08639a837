import { fieldAt, wordsFor } from '../../../src/format/bits.ts'
import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'

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
export function indexOffsets(sections: readonly SectionParams[], arena: Uint32Array, status: Status): void {
  for (const [i, section] of sections.entries()) {
    const indexWords = wordsFor(section.blocks * section.length_bits)
    const room = 32 * (section.word_count - indexWords)
    const lengths = arena.subarray(section.words)
    let total = 0
    for (let block = 0; block < section.blocks; block++) {
      arena[section.index + 2 * block] = total
      const length = section.length_min + fieldAt(lengths, block, section.length_bits)
      total = Math.min(total + length, room + 1)
    }
    arena[section.index + 2 * section.blocks] = total
    if (total > room || wordsFor(total) + indexWords !== section.word_count) fail(status, i, BAD_LENGTHS)
  }
}
