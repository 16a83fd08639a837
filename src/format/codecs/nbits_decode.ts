/**
 * Quantized weights as onnxruntime's MatMulNBits and GatherBlockQuantized store them: a matrix [out, in] of integers of
 * 2, 4 or 8 bits, cut along its rows into quantization blocks that have a scale each and may have a zero point. A weight
 * is (q − zero point) × scale, each operation rounded to f32. With minimums, as GGUF's Q4_1 has them, it is
 * q × scale + minimum, rounded once: the product of an f16 and at most eight bits is exact in f32.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { FLOAT_BYTES, type FloatDtype } from '../dtype.ts'
import { fromHalf } from '../float16.ts'
import { tilingOf } from '../tiling.ts'

export interface NBitsCode {
  bits: 2 | 4 | 8
  /** Weights of a quantization block; the last one of a row is padded to full size. */
  blockSize: number
  /** Of the scales, and of zero points that are floats. */
  dtype: FloatDtype
  /** One for each quantization block: integers as wide as the weights, or floats. 2^(bits − 1) if absent. */
  zeroPoints?: 'packed' | 'float'
  /** Instead of zero points, the value of q = 0 for each quantization block. Scales and minimums are f16 then. */
  minimums?: boolean
  /** The quantized matrix is the tensor's transpose, because its module keeps weights [in, out] (Conv1D). */
  transposed?: boolean
}

/** The parts of a section, in this order; onnxruntime has an input for each. */
export type NBitsComponent = 'weights' | 'scales' | 'zeroPoints' | 'minimums'

export interface ComponentLayout {
  /** In the section, a multiple of 4. */
  offset: number
  /** Without padding. */
  bytes: number
  /** Bytes of an element: a byte of packed integers, or a float. */
  elementBytes: 1 | 2 | 4
  /** Elements of a row of the matrix. */
  rowLength: number
}

export interface NBitsLayout {
  /** Of the quantized matrix, [out, in]. */
  rows: number
  cols: number
  /** Quantization blocks of a row. */
  perRow: number
  components: Partial<Record<NBitsComponent, ComponentLayout>> & Record<'weights' | 'scales', ComponentLayout>
  /** The whole section: every component is padded with zeros to whole words. */
  bytes: number
}

/** Where everything lies in the section of a tensor. */
export function nbitsLayout(shape: readonly number[], code: NBitsCode): NBitsLayout {
  const { bits, blockSize, dtype, zeroPoints, minimums, transposed } = code
  const tensor = tilingOf(shape)
  const [rows, cols] = transposed ? [tensor.cols, tensor.rows] : [tensor.rows, tensor.cols]
  const perRow = Math.ceil(cols / blockSize)
  const floatBytes = FLOAT_BYTES[dtype]
  let end = 0
  const component = (rowLength: number, elementBytes: 1 | 2 | 4): ComponentLayout => {
    const placed = { offset: end, bytes: rows * rowLength * elementBytes, elementBytes, rowLength }
    end += Math.ceil(placed.bytes / 4) * 4
    return placed
  }
  const components: NBitsLayout['components'] = {
    weights: component((perRow * blockSize * bits) / 8, 1),
    scales: component(perRow, floatBytes),
  }
  if (zeroPoints === 'packed') components.zeroPoints = component(Math.ceil((perRow * bits) / 8), 1)
  if (zeroPoints === 'float') components.zeroPoints = component(perRow, floatBytes)
  if (minimums) components.minimums = component(perRow, floatBytes)
  return { rows, cols, perRow, components, bytes: end }
}

/** The bytes of the components of one matrix. */
export interface NBitsBytes {
  weights: Uint8Array
  scales: Uint8Array
  zeroPoints?: Uint8Array
  minimums?: Uint8Array
}

/** Reads single weights of a matrix [out, in]: the definition that shaders/shared/nbits.wgsl repeats. */
export function nbitsReader(
  { bits, blockSize, dtype, zeroPoints, minimums }: NBitsCode,
  cols: number,
  bytes: NBitsBytes,
): (row: number, col: number) => number {
  const perRow = Math.ceil(cols / blockSize)
  const floats = (of: Uint8Array) => {
    const view = new DataView(of.buffer, of.byteOffset, of.byteLength)
    return dtype === 'f16'
      ? (i: number) => fromHalf(view.getUint16(2 * i, true))
      : (i: number) => view.getFloat32(4 * i, true)
  }
  const field = (of: Uint8Array, bit: number) => (of[bit >>> 3] >>> (bit & 7)) & ((1 << bits) - 1)
  const scale = floats(bytes.scales)
  const zeros = bytes.zeroPoints ?? new Uint8Array()
  const zeroFloat = floats(zeros)
  const minimum = floats(bytes.minimums ?? new Uint8Array())
  const zeroStride = Math.ceil((perRow * bits) / 8)
  return (row, col) => {
    const inRow = Math.floor(col / blockSize)
    const block = row * perRow + inRow
    const bit = (block * blockSize + (col - inRow * blockSize)) * bits
    // Beyond 2^31 bits the integer operators would wrap.
    const q = (bytes.weights[Math.floor(bit / 8)] >>> (bit % 8)) & ((1 << bits) - 1)
    if (minimums) return Math.fround(q * scale(block) + minimum(block))
    let zero = 2 ** (bits - 1)
    if (zeroPoints === 'packed') zero = field(zeros.subarray(row * zeroStride), inRow * bits)
    if (zeroPoints === 'float') zero = zeroFloat(block)
    return Math.fround(Math.fround(q - zero) * scale(block))
  }
}

/**
 * The values of a section, in the tensor's own order.
 * @throws {TritswapError} `format` if it is too short
 */
export function decodeNBits(
  section: Uint8Array,
  shape: readonly number[],
  code: NBitsCode,
): Float32Array<ArrayBuffer> {
  const { rows, cols, components, bytes } = nbitsLayout(shape, code)
  if (section.byteLength < bytes) {
    throw new TritswapError(
      'format',
      `Cannot decode quantized weights: a section of ${bytes} bytes is needed, it has ${section.byteLength}`,
      { fields: { expected: bytes, found: section.byteLength } },
    )
  }
  const part = (of: ComponentLayout) => section.subarray(of.offset, of.offset + of.bytes)
  const read = nbitsReader(code, cols, {
    weights: part(components.weights),
    scales: part(components.scales),
    zeroPoints: components.zeroPoints && part(components.zeroPoints),
    minimums: components.minimums && part(components.minimums),
  })
  const values = new Float32Array(rows * cols)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      values[code.transposed ? col * rows + row : row * cols + col] = read(row, col)
    }
  }
  return values
}
