import { FLOAT_DTYPES } from '../dtype.ts'
import { integer, invalid, oneOf, overLimit } from '../fields.ts'
import { MAX_BLOCK_SIZE, MAX_TENSOR_WEIGHTS, MIN_BLOCK_SIZE } from '../limits.ts'
import type { TensorCommon } from '../tensor.ts'
import { weightsOf } from '../tiling.ts'
import type { Codec } from './codec.ts'
import { decodeNBits, type NBitsCode, nbitsLayout } from './nbits_decode.ts'

/** Weights of a base that was quantized; `blocks` is what files call the codec. */
export interface NBitsTensor extends TensorCommon, NBitsCode {
  codec: 'blocks'
}

export const nbits: Codec<NBitsTensor> = {
  name: 'blocks',
  kinds: ['base'],
  fieldsFrom(entry, at) {
    const bits = integer(entry.bits, `${at}.bits`, 2, 8)
    if (bits !== 2 && bits !== 4 && bits !== 8) throw invalid(`${at}.bits`, '2, 4 or 8', bits)
    const blockSize = integer(entry.blockSize, `${at}.blockSize`, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE)
    if (blockSize % MIN_BLOCK_SIZE !== 0)
      throw invalid(`${at}.blockSize`, `a multiple of ${MIN_BLOCK_SIZE}`, blockSize)
    const code: NBitsCode = { bits, blockSize, dtype: oneOf(entry.dtype, `${at}.dtype`, FLOAT_DTYPES) }
    if (entry.zeroPoints !== undefined)
      code.zeroPoints = oneOf(entry.zeroPoints, `${at}.zeroPoints`, ['packed', 'float'])
    if (entry.minimums !== undefined) {
      if (entry.minimums !== true) throw invalid(`${at}.minimums`, 'true', entry.minimums)
      if (code.zeroPoints !== undefined) throw invalid(`${at}.minimums`, 'no zero points beside it', 'both')
      // Of other scales the product is not exact: a device that fuses it with the sum would have other weights.
      if (code.dtype !== 'f16') throw invalid(`${at}.dtype`, 'f16 beside minimums', code.dtype)
      code.minimums = true
    }
    if (entry.transposed !== undefined) code.transposed = entry.transposed === true
    return code
  },
  fieldsToJson: ({ bits, blockSize, dtype, zeroPoints, minimums, transposed }) => ({
    bits,
    blockSize,
    dtype,
    zeroPoints,
    minimums: minimums || undefined,
    transposed: transposed || undefined,
  }),
  checkBytes(tensor) {
    const { name, shape, bits, blockSize } = tensor
    const { rows, perRow, bytes } = nbitsLayout(shape, tensor)
    // The last block of a row is filled up, so the blocks can hold more weights than the tensor has.
    const padded = rows * perRow * blockSize
    if (padded > MAX_TENSOR_WEIGHTS)
      throw overLimit(`weights in the blocks of ${name}`, padded, MAX_TENSOR_WEIGHTS)
    if (tensor.bytes !== bytes)
      throw invalid(`bytes of ${name}`, `${bytes} bytes of ${bits}-bit blocks`, tensor.bytes)
  },
  summary: ({ shape, dtype, bits }) => ({ kept: weightsOf(shape), dtype, bits }),
  form: ({ bits, blockSize, dtype, zeroPoints, minimums, transposed }) => ({
    kind: 'nbits',
    code: { bits, blockSize, dtype, zeroPoints, minimums, transposed },
  }),
  decode: (tensor, section) => decodeNBits(section, tensor.shape, tensor),
}
