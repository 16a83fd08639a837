import { elementAt, type Job, keptBefore, open, signedValue, tileOf } from './job.ts'
import type { Target } from './target.ts'

/** Twin of shaders/apply.wgsl. */
export function apply(job: Job, target: Target, arena: Uint32Array, journal: Uint32Array): void {
  const [stream] = job.streams
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const kept = keptBefore(arena, stream, block)
    const capacity = keptBefore(arena, stream, block + 1) - kept
    const start = stream.journal + target.journalStart(kept, block)
    const cursor = open(arena, stream, block)
    let rank = 0
    while (cursor.more && rank < capacity) {
      if (!cursor.step() || cursor.position >= tile.area) continue
      const { element } = elementAt(job, tile, cursor.position)
      const raw = target.load(element)
      target.journalWrite(journal, start, rank++, raw)
      target.store(element, target.rawOf(target.valueOf(raw) + signedValue(stream.value, cursor.negative)))
    }
  }
}
