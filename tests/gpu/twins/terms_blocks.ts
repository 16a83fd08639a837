import { type NBits, nbitsReader } from './nbits.ts'
import type { Target } from './target.ts'
import { type TermsJob, terms } from './terms.ts'

/** Twin of shaders/terms_blocks.wgsl. @param nbits - where the blocks are in `section` */
export function termsBlocks(
  job: TermsJob,
  nbits: NBits,
  target: Target,
  arena: Uint32Array,
  section: Uint32Array,
): void {
  const weight = nbitsReader(nbits, { quantized: section, scales: section, zeros: section })
  terms(job, target, arena, (i, j) => target.valueOf(target.rawOf(weight(i, j))))
}
