import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { BAD_COUNT, fail, type Status } from './index_offsets.ts'
import { INDEX_WORDS, type Lanes } from './lanes.ts'

/** Twin of shaders/index_counts.wgsl. */
export function indexCounts(
  sections: readonly SectionParams[],
  arena: Uint32Array,
  status: Status,
  lanes: Lanes,
): void {
  const indexWords = INDEX_WORDS[lanes]
  for (const [i, section] of sections.entries()) {
    let total = 0
    for (let block = 0; block < section.blocks; block++) {
      const at = section.index + indexWords * block + 1
      const entries = arena[at]
      arena[at] = total
      total = Math.min(total + entries, 2 ** 32 - 1)
    }
    arena[section.index + indexWords * section.blocks + 1] = total
    if (total !== section.kept) fail(status, i, BAD_COUNT)
  }
}
