/**
 * The weights file of a prepared base: tensors in checkpoint names, shapes and order, taken from the initializers
 * that held them, so that a hoisted session computes exactly what the plain one did.
 *
 * @module
 */
import { type NBitsComponent, nbitsLayout, nbitsReader } from '../../format/codecs/nbits_decode.ts'
import { FLOAT_BYTES, type FloatDtype } from '../../format/dtype.ts'
import { floatsToHalves, halvesToFloats, toHalf } from '../../format/float16.ts'
import {
  type PayloadSpool,
  type Placement,
  sketchPositions,
  type TritTable,
  TritWriter,
  tilingOf,
  weightsOf,
} from '../../format/index.ts'
import { readElements } from '../proto/initializer_data.ts'
import { bindingsOf, type HoistedModel } from './hoisted_model.ts'
import type { HoistedTensor } from './roundings.ts'
import type { TensorRows } from './tensor_rows.ts'
import { componentSlices } from './weight_table.ts'

/**
 * `auto`: quantized tensors as they were quantized, f16 for others that lose nothing by it, f32 for the rest. `f16` and
 * `f32` are dequantized and cannot feed inputs that stay quantized.
 */
export type Storage = FloatDtype | 'auto'

/** Large enough for few hashes, small enough for a progress bar that moves. */
const CHUNK_LOG2 = 19
/** Elements converted at a time. */
const SLICE = 1 << 20

/**
 * Writes all tensors of a hoisted model. At most one initializer is in memory at a time.
 *
 * @returns the head of the file; the payload went to `spool`
 */
export async function writeBaseWeights(
  model: HoistedModel,
  spool: PayloadSpool,
  {
    storage = 'auto',
    onTensor,
    ...table
  }: Pick<TritTable, 'base'> &
    Partial<Pick<TritTable, 'sources' | 'licence' | 'createdWith'>> & {
      storage?: Storage
      onTensor?: (name: string, weights: number) => void
    },
): Promise<Uint8Array<ArrayBuffer>> {
  const writer = new TritWriter(spool, { chunkLog2: CHUNK_LOG2 })
  const sketches = new Map<string, number[]>()
  for (const [name, tensor] of model.tensors) {
    const { shape, target, quantized } = tensor
    const valueAt =
      quantized !== undefined && storage === 'auto'
        ? await writeQuantized(writer, name, tensor, quantized)
        : await writeDense(writer, name, tensor, storage)
    const weights = weightsOf(shape)
    if (!sketches.has(target)) sketches.set(target, sketchPositions(target, weights).map(valueAt))
    onTensor?.(name, weights)
  }
  return writer.finish({
    kind: 'base',
    method: 'full',
    compression: {},
    sources: table.sources ?? [],
    bindings: bindingsOf(model),
    ...table,
    base: { ...table.base, sketch: Uint16Array.from([...sketches.values()].flat()) },
  })
}

/** The weight at a flat position of a tensor, as bits of a binary16. */
type HalfAt = (position: number) => number

async function writeQuantized(
  writer: TritWriter,
  name: string,
  { shape, target }: HoistedTensor,
  quantized: TensorRows,
): Promise<HalfAt> {
  const components = await componentsOf(shape, quantized)
  const { bytes } = nbitsLayout(shape, quantized.code)
  writer.begin({ name, shape, role: 'delta', target, codec: 'blocks', ...quantized.code }, bytes)
  for (const component of Object.values(components)) {
    await writer.append(component)
    await writer.append(new Uint8Array((4 - (component.length % 4)) % 4))
  }
  await writer.end()
  return halfAt(shape, quantized, components)
}

async function writeDense(
  writer: TritWriter,
  name: string,
  { shape, target, home: { data, part } }: HoistedTensor,
  storage: Storage,
): Promise<HalfAt> {
  const weights = weightsOf(shape)
  const stored = await readElements(data, 0, data.length)
  const slice = (start: number) => gather(stored, shape, part, start, Math.min(SLICE, weights - start))
  let dtype: FloatDtype = storage === 'f32' ? 'f32' : 'f16'
  if (storage === 'auto' && stored instanceof Float32Array && !data.quantized) {
    for (let start = 0; start < weights && dtype === 'f16'; start += SLICE) {
      if (!exactInHalf(slice(start) as Float32Array)) dtype = 'f32'
    }
  }
  writer.begin({ name, shape, role: 'delta', target, codec: 'dense', dtype }, weights * FLOAT_BYTES[dtype])
  for (let start = 0; start < weights; start += SLICE) await writer.append(converted(slice(start), dtype))
  await writer.end()
  const { cols } = tilingOf(shape)
  return (position) => {
    const row = Math.floor(position / cols)
    const value = stored[part.offset + row * part.rowStride + (position - row * cols) * part.colStride]
    return stored instanceof Float32Array ? toHalf(value) : value
  }
}

/** Bytes of the components of a quantized tensor, in the order of its section. */
async function componentsOf(shape: readonly number[], quantized: TensorRows) {
  const sections: Partial<Record<NBitsComponent, Uint8Array>> = {}
  for (const { component, source, offset, bytes } of componentSlices(shape, quantized))
    sections[component] = await source.read(offset, bytes)
  return sections as Required<typeof sections>
}

function halfAt(
  shape: readonly number[],
  { code }: TensorRows,
  components: Parameters<typeof nbitsReader>[2],
): HalfAt {
  const read = nbitsReader(code, nbitsLayout(shape, code).cols, components)
  const { cols } = tilingOf(shape)
  return (position) => {
    const row = Math.floor(position / cols)
    const col = position - row * cols
    return toHalf(code.transposed ? read(col, row) : read(row, col))
  }
}

/** Elements `[start, start + count)` of a tensor, in row-major order, out of the buffer it is placed in. */
function gather<T extends Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>>(
  buffer: T,
  shape: readonly number[],
  { offset, rowStride, colStride }: Placement,
  start: number,
  count: number,
): T {
  const { cols } = tilingOf(shape)
  const values = buffer.slice(0, count) as T
  let row = Math.floor(start / cols)
  let col = start - row * cols
  for (let i = 0; i < count; i++) {
    values[i] = buffer[offset + row * rowStride + col * colStride]
    if (++col === cols) {
      col = 0
      row++
    }
  }
  return values
}

function converted(
  values: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>,
  dtype: FloatDtype,
): ArrayBufferView {
  if (dtype === 'f16') return values instanceof Uint16Array ? values : floatsToHalves(values)
  return values instanceof Float32Array ? values : halvesToFloats(values)
}

/** Whether f16 holds every value, bit for bit (−0 included). */
function exactInHalf(values: Float32Array): boolean {
  const back = halvesToFloats(floatsToHalves(values))
  return back.every((value, i) => Object.is(value, values[i]))
}
