/**
 * The weights of a hoisted model without a container file: an initializer lies in its file exactly as the input that
 * it became wants it, so its bytes go from there to a GPU buffer as they are. Quantized weights go as they are as well,
 * as sections of the container that was not written.
 *
 * @module
 */
import { ELEMENT_BYTES } from '../../format/index.ts'
import type { ByteSource, ReadOptions } from '../../source/source.ts'
import { withStream } from '../../source/stream.ts'
import type { HoistedModel } from './hoisted_model.ts'
import { componentSlices, weightTable } from './weight_table.ts'

/** Bytes in memory at a time. */
const SLICE_BYTES = 4 << 20
/** A gap between two weights up to this, as alignment leaves it, costs less to read than another request. */
const MAX_GAP = 64 << 10

/** Bytes of one graph input, or of the payload that the table of {@link weightTable} describes. */
export interface WeightPiece {
  /** Undefined for bytes of the payload, which are whole words. */
  input?: string
  /** In the input, a multiple of {@link SLICE_BYTES}; or in the payload, a multiple of 4. */
  offset: number
  bytes: Uint8Array<ArrayBuffer>
}

/** Bytes that {@link weightPieces} yields, but for the padding of the payload. */
export function weightBytes(model: HoistedModel): number {
  return runsOf(model).reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Every weight once, file by file from front to back, so that each file is one request. */
export async function* weightPieces(
  model: HoistedModel,
  options: ReadOptions = {},
): AsyncGenerator<WeightPiece, void, void> {
  const bySource = new Map<ByteSource, Run[]>()
  for (const run of runsOf(model)) bySource.set(run.source, [...(bySource.get(run.source) ?? []), run])
  for (const [source, runs] of bySource) {
    runs.sort((a, b) => a.offset - b.offset)
    const end = Math.max(...runs.map(({ offset, bytes }) => offset + bytes))
    const view = withStream(source, { ...options, end })
    let at = runs[0].offset
    try {
      for (const { input, to, offset, bytes: length } of runs) {
        const gap = offset - at
        if (source.stream && gap > 0 && gap <= MAX_GAP) await view.read(at, gap, options)
        for (let first = 0; first < length; first += SLICE_BYTES) {
          const bytes = await view.read(offset + first, Math.min(SLICE_BYTES, length - first), options)
          yield { input, offset: to + first, bytes: input === undefined ? inWords(bytes) : bytes }
        }
        at = offset + length
      }
    } finally {
      await view.close()
    }
  }
}

/** Bytes that lie together, in their file and where they go. */
interface Run {
  source: ByteSource
  offset: number
  bytes: number
  /** Undefined for the payload. */
  input?: string
  to: number
}

/** What feeds every input: an input of one name is one buffer, whichever graphs it is in. */
function runsOf(model: HoistedModel): Run[] {
  const inputs = new Map(
    model.graphs.flatMap(({ weights }) => weights).map((weight) => [weight.input.name, weight]),
  )
  const own = [...inputs.values()].filter(
    ({ input }) =>
      input.raw === undefined &&
      input.parts.some(({ tensor }) => model.tensors.get(tensor)!.quantized === undefined),
  )
  const { tensors } = weightTable(model)
  return [
    ...own.map(({ input, data: { source, offset, length, dtype } }) => ({
      source,
      offset,
      bytes: length * ELEMENT_BYTES[dtype],
      input: input.name,
      to: 0,
    })),
    ...tensors.flatMap(({ name, offset: section }) => {
      const { shape, quantized } = model.tensors.get(name)!
      if (quantized === undefined) return []
      return componentSlices(shape, quantized).map(({ source, offset, bytes, at }) => ({
        source,
        offset,
        bytes,
        to: section + at,
      }))
    }),
  ]
}

/** Payload comes in whole words, filled up with zeros. */
function inWords(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.length % 4 === 0) return bytes
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  padded.set(bytes)
  return padded
}
