import { TritswapError } from '../errors.ts'
import { formOf } from './codecs/index.ts'
import { FLOAT_BYTES, type FloatDtype } from './dtype.ts'
import type { TritTable, TritTensor } from './table.ts'

/**
 * Checks the values of an expert's dense sections in a piece of its payload: one that is NaN or infinite would spread
 * to everything that the model computes.
 * @param offset - of the piece in the payload, a multiple of 4
 * @param file - for messages
 * @throws {TritswapError} `format` naming tensor and index
 */
export function checkFinite(
  { tensors }: Pick<TritTable, 'tensors'>,
  offset: number,
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
): void {
  const end = offset + bytes.byteLength
  for (const tensor of tensors) {
    const form = formOf(tensor)
    if (form.kind !== 'dense') continue
    const from = Math.max(offset, tensor.offset)
    const to = Math.min(end, tensor.offset + tensor.bytes)
    if (from >= to) continue
    const at = firstNotFinite(bytes.subarray(from - offset, to - offset), form.dtype)
    if (at < 0) continue
    throw notFinite(tensor, (from - tensor.offset) / FLOAT_BYTES[form.dtype] + at, file)
  }
}

/**
 * The same of values that were decoded.
 * @param first - index of the first of them in the tensor
 */
export function checkFiniteValues(tensor: TritTensor, values: Float32Array, file: string, first = 0): void {
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) throw notFinite(tensor, first + at, file)
}

function notFinite({ name }: TritTensor, index: number, file: string): TritswapError {
  return new TritswapError(
    'format',
    `Cannot trust ${file}: ${name} is NaN or infinite at index ${index}; make the expert again`,
    { fields: { name: file, tensor: name, index } },
  )
}

/** Position of the first value whose exponent is all ones, or −1. */
function firstNotFinite(section: Uint8Array<ArrayBuffer>, dtype: FloatDtype): number {
  const { buffer, byteOffset, byteLength } = section.byteOffset % 4 === 0 ? section : section.slice()
  const bits =
    dtype === 'f16'
      ? new Uint16Array(buffer, byteOffset, byteLength / 2)
      : new Uint32Array(buffer, byteOffset, byteLength / 4)
  const exponent = dtype === 'f16' ? 0x7c00 : 0x7f800000
  return bits.findIndex((value) => (value & exponent) === exponent)
}
