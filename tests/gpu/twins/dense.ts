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
  const olds = job.streams.slice(0, job.olds)
  const news = job.streams.slice(job.olds, job.olds + job.news)
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const [oldStart, start] = [olds, news].map((streams) =>
      streams.length > 0 ? denseStart(job, target, streams[streams.length - 1], block) : 0,
    )
    for (let position = 0; position < tile.area; position++) {
      const { element, flat } = elementAt(job, tile, position)
      let raw = olds.length > 0 ? target.displacedAt(displaced, oldStart, position) : target.load(element)
      if (news.length > 0) {
        target.journalWrite(journal, start, position, raw)
        const deltas = news.map((stream) => Math.fround(stream.value * denseAt(arena, stream, flat)))
        raw = target.rawOf(target.valueOf(raw) + deltas.reduce((sum, delta) => Math.fround(sum + delta)))
      }
      target.store(element, raw)
    }
  }
}
