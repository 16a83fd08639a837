/**
 * The weights of a hoisted model without a container file: an initializer lies in its file exactly as the input that
 * it became wants it, so its bytes go from there to a GPU buffer as they are.
 *
 * @module
 */
import { type TritTable, weightsOf } from '../format/index.ts'
import type { ReadOptions } from '../source/source.ts'
import { withStream } from '../source/stream.ts'
import type { HoistedWeight } from './hoist.ts'
import { bindingsOf, type HoistedModel } from './hoisted_model.ts'
import { BYTES_PER_ELEMENT } from './initializer.ts'

/** What is in memory at a time. */
const SLICE_BYTES = 4 << 20
/** Alignment between two weights is cheaper to read over than a request. */
const MAX_GAP = 64 << 10

/** Bytes of one graph input. `offset` is a multiple of {@link SLICE_BYTES}. */
export interface WeightPiece {
  input: string
  offset: number
  bytes: Uint8Array<ArrayBuffer>
}

/** The table of a `.trit` file of kind `base` with this model's weights, had it been written. */
export function weightTable(model: HoistedModel, base: TritTable['base'] = {}): TritTable {
  const dtypes = new Map(
    weightsByInput(model).flatMap(({ input }) => input.parts.map(({ tensor }) => [tensor, input.dtype])),
  )
  let offset = 0
  const tensors = Array.from(model.tensors, ([name, { shape, target }]) => {
    const dtype = dtypes.get(name) === 'float16' ? ('f16' as const) : ('f32' as const)
    const bytes = Math.ceil((weightsOf(shape) * (dtype === 'f16' ? 2 : 4)) / 4) * 4
    const tensor = {
      name,
      shape,
      role: 'delta' as const,
      target,
      codec: 'dense' as const,
      dtype,
      bytes,
      offset,
    }
    offset += bytes
    return tensor
  })
  return {
    kind: 'base',
    method: 'full',
    tensors,
    base,
    compression: {},
    sources: [],
    bindings: bindingsOf(model),
  }
}

/** Bytes that {@link weightPieces} yields. */
export function weightBytes(model: HoistedModel): number {
  return weightsByInput(model).reduce((sum, { data }) => sum + bytesOf(data), 0)
}

/** The contents of every input once, file by file from front to back, so that each file is one request. */
export async function* weightPieces(
  model: HoistedModel,
  options: ReadOptions = {},
): AsyncGenerator<WeightPiece, void, void> {
  const bySource = new Map<HoistedWeight['data']['source'], HoistedWeight[]>()
  for (const weight of weightsByInput(model)) {
    const { source } = weight.data
    bySource.set(source, [...(bySource.get(source) ?? []), weight])
  }
  for (const [source, weights] of bySource) {
    weights.sort((a, b) => a.data.offset - b.data.offset)
    const last = weights[weights.length - 1].data
    const view = withStream(source, { ...options, end: last.offset + bytesOf(last) })
    let at = weights[0].data.offset
    try {
      for (const { input, data } of weights) {
        const gap = data.offset - at
        if (source.stream && gap > 0 && gap <= MAX_GAP) await view.read(at, gap, options)
        const length = bytesOf(data)
        for (let offset = 0; offset < length; offset += SLICE_BYTES) {
          const bytes = await view.read(data.offset + offset, Math.min(SLICE_BYTES, length - offset), options)
          yield { input: input.name, offset, bytes }
        }
        at = data.offset + length
      }
    } finally {
      await view.close()
    }
  }
}

/** Inputs of one name are one buffer, whichever graphs they are in. */
function weightsByInput({ graphs }: HoistedModel): HoistedWeight[] {
  const byName = new Map<string, HoistedWeight>()
  for (const weight of graphs.flatMap(({ weights }) => weights)) {
    if (!byName.has(weight.input.name)) byName.set(weight.input.name, weight)
  }
  return [...byName.values()]
}

function bytesOf({ dtype, length }: HoistedWeight['data']): number {
  return length * BYTES_PER_ELEMENT[dtype]
}
