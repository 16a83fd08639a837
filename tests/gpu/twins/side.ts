import { elementAt, type Job, open, tileOf } from './job.ts'

/** Twin of shaders/side.wgsl. */
export function side(job: Job, fields: Uint32Array, arena: Uint32Array): void {
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    const cursor = open(job, arena, job.streams[0], block)
    while (cursor.more) {
      if (!cursor.step() || cursor.position >= tile.area) continue
      const { element } = elementAt(job, tile, cursor.position)
      fields[element >>> 4] ^= (1 + 2 * cursor.negative) << ((element & 15) << 1)
    }
  }
}
