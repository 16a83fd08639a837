/**
 * The weights of a hoisted model without a container file: an initializer lies in its file exactly as the input that
 * it became wants it, so its bytes go from there to a GPU buffer as they are. Quantized weights go as they are as well,
 * as sections of the container that was not written.
 *
 * @module
 */
import {
  type BlocksComponent,
  blocksLayout,
  ELEMENT_BYTES,
  type TritTable,
  type TritTensor,
  weightsOf,
} from '../../format/index.ts'
import type { ByteSource, ReadOptions } from '../../source/source.ts'
import { withStream } from '../../source/stream.ts'
import { bindingsOf, type HoistedModel, type TensorBlocks } from './hoisted_model.ts'

/** What is in memory at a time. */
const SLICE_BYTES = 4 << 20
/** Alignment between two weights is cheaper to read over than a request. */
const MAX_GAP = 64 << 10

/** Bytes of one graph input, or of the payload that the table of {@link weightTable} describes. */
export interface WeightPiece {
  /** Undefined for bytes of the payload, which are whole words. */
  input?: string
  /** In the input, a multiple of {@link SLICE_BYTES}; or in the payload, a multiple of 4. */
  offset: number
  bytes: Uint8Array<ArrayBuffer>
}

/** The table of a `.trit` file of kind `base` with this model's weights, had it been written. */
export function weightTable(model: HoistedModel, base: TritTable['base'] = {}): TritTable {
  let offset = 0
  const tensors = Array.from(model.tensors, ([name, { shape, target, home, blocks }]): TritTensor => {
    const common = { name, shape, role: 'delta' as const, target }
    const dtype = home.data.dtype === 'float16' ? ('f16' as const) : ('f32' as const)
    const bytes =
      blocks === undefined
        ? Math.ceil((weightsOf(shape) * (dtype === 'f16' ? 2 : 4)) / 4) * 4
        : blocksLayout(shape, blocks.code).bytes
    const codec = blocks === undefined ? { codec: 'dense', dtype } : { codec: 'blocks', ...blocks.code }
    const tensor = { ...common, ...codec, bytes, offset } as TritTensor
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

/** A component of a quantized tensor in the initializer that holds it. */
interface ComponentSlice {
  component: BlocksComponent
  source: ByteSource
  offset: number
  bytes: number
  /** In the tensor's section. */
  at: number
}

/** The components of a quantized tensor, in the order of its section. */
export function componentSlices(
  shape: readonly number[],
  { code, matrix, firstRow }: TensorBlocks,
): ComponentSlice[] {
  return Object.entries(blocksLayout(shape, code).components).map(([name, layout]) => {
    const component = name as BlocksComponent
    const { source, offset } = matrix.components[component]!
    const first = firstRow * layout.rowLength * layout.elementBytes
    return { component, source, offset: offset + first, bytes: layout.bytes, at: layout.offset }
  })
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

/** Bytes that go from one place to one place. */
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
      input.parts.some(({ tensor }) => model.tensors.get(tensor)!.blocks === undefined),
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
      const { shape, blocks } = model.tensors.get(name)!
      if (blocks === undefined) return []
      return componentSlices(shape, blocks).map(({ source, offset, bytes, at }) => ({
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
