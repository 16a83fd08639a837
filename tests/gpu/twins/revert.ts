import { elementAt, type Job, JournalPlaces, keptBefore, open, tileOf } from './job.ts'
import type { Target } from './target.ts'

/** Twin of shaders/revert.wgsl. */
export function revert(job: Job, target: Target, arena: Uint32Array, displaced: Uint32Array): void {
  const [stream] = job.streams
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const kept = keptBefore(job, arena, stream, block)
    const places = new JournalPlaces(job, target, stream, block, kept)
    const capacity = keptBefore(job, arena, stream, block + 1) - kept
    const cursor = open(job, arena, stream, block)
    for (let entries = 0; cursor.more && entries < capacity; ) {
      if (!cursor.step() || cursor.position >= tile.area) continue
      entries++
      const { start, rank } = places.next(cursor.position)
      target.store(elementAt(job, tile, cursor.position).element, target.displacedAt(displaced, start, rank))
    }
  }
}
