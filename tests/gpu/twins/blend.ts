import type { Cursor } from './golomb.ts'
import {
  denseAt,
  denseBefore,
  elementAt,
  type Job,
  JournalPlaces,
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
  const reverted = job.streams.slice(0, job.reverted)
  const applied = job.streams.slice(job.reverted, job.reverted + job.applied)
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const elementOf = (position: number) => elementAt(job, tile, position).element
    for (const stream of reverted) {
      const places = placesOf(job, target, arena, stream, block)
      for (const position of deltasOf(job, arena, tile, stream, block).keys()) {
        const { start, rank } = places.next(position)
        target.store(elementOf(position), target.displacedAt(displaced, start, rank))
      }
    }
    const sums = new Map<number, { sum: number; last: number }>()
    const parts = applied.map((stream) => deltasOf(job, arena, tile, stream, block))
    for (const [i, deltas] of parts.entries()) {
      for (const [position, delta] of deltas) {
        const before = sums.get(position)
        const sum = before === undefined ? delta : Math.fround(before.sum + delta)
        sums.set(position, { sum, last: i })
      }
    }
    for (const [i, deltas] of parts.entries()) {
      const places = placesOf(job, target, arena, applied[i], block)
      for (const position of deltas.keys()) {
        const { start, rank } = places.next(position)
        const { sum, last } = sums.get(position)!
        const raw = target.load(elementOf(position))
        target.journalWrite(journal, start, rank, last === i ? raw : 0)
        if (last === i) target.store(elementOf(position), target.rawOf(target.valueOf(raw) + sum))
      }
    }
  }
}

function placesOf(
  job: Job,
  target: Target,
  arena: Uint32Array,
  stream: Stream,
  block: number,
): JournalPlaces {
  const kept = stream.codec === TERNARY ? keptBefore(job, arena, stream, block) : denseBefore(job, block)
  return new JournalPlaces(job, target, stream, block, kept)
}

/** What a stream adds to the positions of a tile, in ascending order. */
function deltasOf(
  job: Job,
  arena: Uint32Array,
  tile: Tile,
  stream: Stream,
  block: number,
): Map<number, number> {
  const deltas = new Map<number, number>()
  if (stream.codec === TERNARY) {
    const cursor: Cursor = open(job, arena, stream, block)
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
