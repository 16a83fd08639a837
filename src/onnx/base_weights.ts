/**
 * The weights file of a prepared base: tensors in checkpoint names, shapes and order, taken from the initializers
 * that held them, so that a hoisted session computes exactly what the plain one did.
 *
 * @module
 */
import { floatsToHalves, halvesToFloats, toHalf } from '../format/float16.ts'
import {
  type PayloadSpool,
  type Placement,
  sketchPositions,
  type TritTable,
  TritWriter,
  tilingOf,
  weightsOf,
} from '../format/index.ts'
import type { HoistedWeight } from './hoist.ts'
import { bindingsOf, type HoistedModel } from './hoisted_model.ts'
import { readElements } from './initializer.ts'

/** `auto`: f16 for tensors that lose nothing by it, and for those that were 4-bit; f32 for the others. */
export type Storage = 'f16' | 'f32' | 'auto'

/** Few hashes, and still a progress bar that moves. */
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
  const homes = homesOf(model)
  const sketches = new Map<string, number[]>()
  for (const [name, { shape, target }] of model.tensors) {
    const { weight, part } = homes.get(name)!
    const stored = await readElements(weight.data, 0, weight.data.length)
    const weights = weightsOf(shape)
    const slice = (start: number) => gather(stored, shape, part, start, Math.min(SLICE, weights - start))
    let dtype: 'f16' | 'f32' = storage === 'f32' ? 'f32' : 'f16'
    if (storage === 'auto' && stored instanceof Float32Array && !weight.data.quantized) {
      for (let start = 0; start < weights && dtype === 'f16'; start += SLICE) {
        if (!exactInHalf(slice(start) as Float32Array)) dtype = 'f32'
      }
    }
    const { cols } = tilingOf(shape)
    const at = (position: number) => {
      const row = Math.floor(position / cols)
      const value = stored[part.offset + row * part.rowStride + (position - row * cols) * part.colStride]
      return stored instanceof Float32Array ? toHalf(value) : value
    }
    if (!sketches.has(target)) sketches.set(target, sketchPositions(target, weights).map(at))
    writer.begin(
      { name, shape, role: 'delta', target, codec: 'dense', dtype },
      weights * (dtype === 'f16' ? 2 : 4),
    )
    for (let start = 0; start < weights; start += SLICE) await writer.append(converted(slice(start), dtype))
    await writer.end()
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

/** Where each tensor is read from: the first place that holds it. Tied places hold the same values. */
function homesOf(model: HoistedModel): Map<string, { weight: HoistedWeight; part: Placement }> {
  const homes = new Map<string, { weight: HoistedWeight; part: Placement }>()
  for (const weight of model.graphs.flatMap(({ weights }) => weights)) {
    for (const part of weight.input.parts)
      if (!homes.has(part.tensor)) homes.set(part.tensor, { weight, part })
  }
  return homes
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
  dtype: 'f16' | 'f32',
): ArrayBufferView {
  if (dtype === 'f16') return values instanceof Uint16Array ? values : floatsToHalves(values)
  return values instanceof Float32Array ? values : halvesToFloats(values)
}

/** Whether f16 holds every value, bit for bit (−0 included). */
function exactInHalf(values: Float32Array): boolean {
  const back = halvesToFloats(floatsToHalves(values))
  return back.every((value, i) => Object.is(value, values[i]))
}
