import { denseAt, denseStart, elementAt, type Job, tileOf } from './job.ts'
import type { Target } from './target.ts'

/** Twin of shaders/dense.wgsl. */
export function dense(
  job: Job,
  target: Target,
  arena: Uint32Array,
  displaced: Uint32Array,
  journal: Uint32Array,
): void {
  const reverted = job.streams.slice(0, job.reverted)
  const applied = job.streams.slice(job.reverted, job.reverted + job.applied)
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const [oldStart, start] = [reverted, applied].map((streams) =>
      streams.length > 0 ? denseStart(job, target, streams[streams.length - 1], block) : 0,
    )
    for (let position = 0; position < tile.area; position++) {
      const { element, flat } = elementAt(job, tile, position)
      let raw = reverted.length > 0 ? target.displacedAt(displaced, oldStart, position) : target.load(element)
      if (applied.length > 0) {
        target.journalWrite(journal, start, position, raw)
        const deltas = applied.map((stream) => Math.fround(stream.value * denseAt(arena, stream, flat)))
        raw = target.rawOf(target.valueOf(raw) + deltas.reduce((sum, delta) => Math.fround(sum + delta)))
      }
      target.store(element, raw)
    }
  }
}
