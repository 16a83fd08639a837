import { denseAt, denseBefore, elementAt, type Job, JournalPlaces, tileOf } from './job.ts'
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
    const [oldPlaces, places] = [reverted, applied].map((streams) => {
      const last = streams.at(-1)
      return last && new JournalPlaces(job, target, last, block, denseBefore(job, block))
    })
    for (let position = 0; position < tile.area; position++) {
      const { element, flat } = elementAt(job, tile, position)
      const old = oldPlaces?.next(position)
      let raw = old ? target.displacedAt(displaced, old.start, old.rank) : target.load(element)
      const place = places?.next(position)
      if (place !== undefined) {
        target.journalWrite(journal, place.start, place.rank, raw)
        const deltas = applied.map((stream) => Math.fround(stream.value * denseAt(arena, stream, flat)))
        raw = target.rawOf(target.valueOf(raw) + deltas.reduce((sum, delta) => Math.fround(sum + delta)))
      }
      target.store(element, raw)
    }
  }
}
