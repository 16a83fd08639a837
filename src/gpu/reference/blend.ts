import type { Cursor } from './golomb.ts'
import {
  denseAt,
  elementAt,
  type Job,
  keptBefore,
  open,
  type Stream,
  signedValue,
  TERNARY,
  type Tile,
  tileOf,
} from './job.ts'
import type { Target } from './target.ts'

/** Twin of shaders/blend.wgsl. */
export function blend(
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
    const oldStart = target.journalStart(entriesBefore(job, arena, olds, block), block)
    const start = target.journalStart(entriesBefore(job, arena, news, block), block)
    const reverted = olds.map((stream) => deltasOf(job, arena, tile, stream, block))
    const applied = news.map((stream) => deltasOf(job, arena, tile, stream, block))
    let oldRank = 0
    let rank = 0
    for (let position = 0; position < tile.area; position++) {
      const { element } = elementAt(job, tile, position)
      let raw = target.load(element)
      if (reverted.some((deltas) => deltas.has(position)))
        raw = target.displacedAt(displaced, oldStart, oldRank++)
      const parts = applied.flatMap((deltas) => deltas.get(position) ?? [])
      if (parts.length > 0) {
        target.journalWrite(journal, start, rank++, raw)
        const delta = parts.reduce((sum, part) => Math.fround(sum + part))
        raw = target.rawOf(target.valueOf(raw) + delta)
      }
      target.store(element, raw)
    }
  }
}

/** What a stream adds to the positions of a tile. */
function deltasOf(
  job: Job,
  arena: Uint32Array,
  tile: Tile,
  stream: Stream,
  block: number,
): Map<number, number> {
  const deltas = new Map<number, number>()
  if (stream.codec === TERNARY) {
    const cursor: Cursor = open(arena, stream, block)
    while (cursor.more)
      if (cursor.step()) deltas.set(cursor.position, signedValue(stream.value, cursor.negative))
  } else {
    for (let position = 0; position < tile.area; position++) {
      const { flat } = elementAt(job, tile, position)
      deltas.set(position, Math.fround(stream.value * denseAt(arena, stream, flat)))
    }
  }
  return deltas
}

function entriesBefore(job: Job, arena: Uint32Array, streams: readonly Stream[], block: number): number {
  const { row, col, height } = tileOf(job, block)
  return streams.reduce(
    (sum, stream) =>
      sum + (stream.codec === TERNARY ? keptBefore(arena, stream, block) : row * job.cols + height * col),
    0,
  )
}
