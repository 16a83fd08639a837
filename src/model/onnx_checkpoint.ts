/**
 * The float weights of an ONNX model read as a checkpoint: under the names and in the layout of the checkpoint that
 * it was exported from.
 *
 * @module
 */
import type { StoredTensor } from '../compress/safetensors.ts'
import { ELEMENT_BYTES } from '../format/dtype.ts'
import { type Placement, tilingOf, weightsOf } from '../format/index.ts'
import type { HoistedModel, HoistedWeight } from '../onnx/index.ts'
import type { ByteSource } from '../source/source.ts'

/** Tensors of a model by their names in the checkpoint; nothing of them is read yet. */
export function onnxTensors(model: HoistedModel): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>()
  for (const { weights } of model.graphs) {
    for (const weight of weights) {
      for (const part of weight.input.parts) {
        const tensor = model.tensors.get(part.tensor)
        // A tied tensor is in several inputs, and may have several roundings; the first has its values.
        if (tensor === undefined || tensors.has(tensor.target)) continue
        tensors.set(tensor.target, storedTensor(weight, part, tensor))
      }
    }
  }
  return tensors
}

function storedTensor(
  { data, input }: HoistedWeight,
  part: Placement,
  { shape, target }: { shape: readonly number[]; target: string },
): StoredTensor {
  const { rows, cols } = tilingOf(shape)
  const size = ELEMENT_BYTES[data.dtype]
  const weights = weightsOf(shape)
  const common = {
    name: target,
    dtype: size === 2 ? 'F16' : 'F32',
    shape,
    weights,
    bytes: weights * size,
  }
  if (part.colStride === 1 && (rows === 1 || part.rowStride === cols)) {
    return { ...common, source: data.source, offset: data.offset + part.offset * size }
  }
  const source = rearranged(data.source, `${input.name} of ${data.source.name}`, {
    rows,
    cols,
    size,
    part,
    start: data.offset,
  })
  return { ...common, source, offset: 0 }
}

interface Arrangement {
  rows: number
  cols: number
  /** Bytes of an element. */
  size: number
  part: Placement
  /** First byte of the initializer. */
  start: number
}

/** The elements of one tensor in checkpoint order; held in memory while slices of it are being read. */
function rearranged(
  source: ByteSource,
  name: string,
  { rows, cols, size, part, start }: Arrangement,
): ByteSource {
  const { offset, rowStride, colStride } = part
  const bytes = rows * cols * size
  const gather = async () => {
    const span = (rows - 1) * rowStride + (cols - 1) * colStride + 1
    const stored = await source.read(start + offset * size, span * size)
    const from =
      size === 2 ? new Uint16Array(stored.buffer, 0, span) : new Uint32Array(stored.buffer, 0, span)
    const to = size === 2 ? new Uint16Array(rows * cols) : new Uint32Array(rows * cols)
    for (let r = 0, i = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) to[i++] = from[r * rowStride + c * colStride]
    return new Uint8Array(to.buffer)
  }
  // Weak: the passes over a tensor come one after the other, and the next tensor may have the memory.
  let held: WeakRef<Promise<Uint8Array<ArrayBuffer>>> | undefined
  return {
    name,
    size: async () => bytes,
    async read(at, length) {
      let values = held?.deref()
      if (values === undefined) {
        values = gather()
        held = new WeakRef(values)
      }
      return (await values).slice(at, at + length)
    },
  }
}
