import { bitsFromUnit, type StepUnit, stepped, unitFromBits } from '../../../src/format/steps.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { elementAt, type Job, type Stream, type Tile, tileOf } from './job.ts'
import { bitsOf, floatOf, type Target } from './target.ts'

export const { NOT_JOURNALED, UNIT_F32, UNIT_F16, UNIT_BF16 } = shaderConstants('steps', [
  'NOT_JOURNALED',
  'UNIT_F32',
  'UNIT_F16',
  'UNIT_BF16',
])

export const UNITS = new Map<number, StepUnit>([
  [UNIT_F32, 'f32'],
  [UNIT_F16, 'f16'],
  [UNIT_BF16, 'bf16'],
])

/** Twin of shaders/steps.wgsl. */
export function steps(
  job: Job,
  target: Target,
  arena: Uint32Array,
  displaced: Uint32Array,
  journal: Uint32Array,
): void {
  for (let block = job.first_block; block < job.end_block; block++) {
    const tile = tileOf(job, block)
    for (const stream of job.streams.slice(0, job.reverted)) {
      entriesOf(job, arena, stream, block, tile, (element, _, rank, kept) => {
        const start = stream.journal + target.journalStart(kept, block)
        target.store(element, target.displacedAt(displaced, start, rank))
      })
    }
    for (const stream of job.streams.slice(job.reverted, job.reverted + job.applied)) {
      const unit = UNITS.get(stream.code.low)!
      entriesOf(job, arena, stream, block, tile, (element, step, rank, kept) => {
        const raw = target.load(element)
        if (stream.journal !== NOT_JOURNALED)
          target.journalWrite(journal, stream.journal + target.journalStart(kept, block), rank, raw)
        const value = target.valueOf(raw)
        const bits = bitsFromUnit(stepped(unitFromBits(bitsOf(value), unit), step, unit), unit)
        const share = Math.fround(stream.value * Math.fround(floatOf(bits) - value))
        target.store(element, stream.value === 1 ? target.rawFromFloat(bits) : target.rawOf(value + share))
      })
    }
  }
}

function stepsBefore(arena: Uint32Array, { index }: Stream, block: number): number {
  return arena[index + 2 * block + 1]
}

function entriesOf(
  job: Job,
  arena: Uint32Array,
  stream: Stream,
  block: number,
  tile: Tile,
  take: (element: number, step: number, rank: number, kept: number) => void,
): void {
  const kept = stepsBefore(arena, stream, block)
  const count = stepsBefore(arena, stream, block + 1) - kept
  const { words, m: perEntry } = stream.code
  for (let rank = 0; rank < count; rank++) {
    const at = words + (kept + rank) * perEntry
    const step = perEntry === 2 ? arena[at + 1] | 0 : arena[at] >> 16
    take(elementAt(job, tile, arena[at] & 0xfff).element, step, rank, kept)
  }
}
