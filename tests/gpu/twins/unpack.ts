import { denseAt, elementAt, type Job, open, signedValue, TERMS, TERNARY, termsAt, tileOf } from './job.ts'
import type { Target } from './target.ts'

/** Twin of shaders/unpack.wgsl. */
export function unpack(job: Job, target: Target, arena: Uint32Array): void {
  const [stream] = job.streams
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const add = (position: number, delta: (flat: number) => number) => {
      const { element, flat } = elementAt(job, tile, position)
      target.store(element, target.rawOf(target.valueOf(target.load(element)) + delta(flat)))
    }
    if (stream.codec === TERNARY) {
      const cursor = open(job, arena, stream, block)
      while (cursor.more) {
        if (cursor.step() && cursor.position < tile.area) {
          add(cursor.position, () => signedValue(stream.value, cursor.negative))
        }
      }
    } else {
      for (let position = 0; position < tile.area; position++) {
        const at = stream.codec === TERMS ? termsAt : denseAt
        add(position, (flat) => Math.fround(stream.value * at(arena, stream, flat)))
      }
    }
  }
}
