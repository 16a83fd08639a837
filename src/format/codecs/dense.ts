import { TritswapError } from '../../errors.ts'
import { FLOAT_BYTES, FLOAT_DTYPES, type FloatDtype } from '../dtype.ts'
import { invalid, oneOf } from '../fields.ts'
import { floatsToHalves, halvesToFloats } from '../float16.ts'
import type { TensorCommon } from '../tensor.ts'
import { weightsOf } from '../tiling.ts'
import type { Codec } from './codec.ts'

export interface DenseTensor extends TensorCommon {
  codec: 'dense'
  dtype: FloatDtype
}

/** Values as they are. */
export const dense: Codec<DenseTensor> = {
  name: 'dense',
  kinds: ['expert', 'base'],
  fieldsFrom: (entry, at) => ({ dtype: oneOf(entry.dtype, `${at}.dtype`, FLOAT_DTYPES) }),
  fieldsToJson: ({ dtype }) => ({ dtype }),
  checkBytes({ name, shape, dtype, bytes }) {
    const expected = Math.ceil((weightsOf(shape) * FLOAT_BYTES[dtype]) / 4) * 4
    if (bytes !== expected) throw invalid(`bytes of ${name}`, `${expected} bytes of ${dtype}`, bytes)
  },
  summary: ({ shape, dtype }) => ({ kept: weightsOf(shape), dtype }),
  form: ({ dtype }) => ({ kind: 'dense', dtype }),
  decode: ({ shape, dtype }, section) => decodeDense(section, weightsOf(shape), dtype),
  slice(tensor, from, count) {
    const size = FLOAT_BYTES[tensor.dtype]
    return { ...tensor, shape: [count], offset: tensor.offset + from * size, bytes: count * size }
  },
}

/** A dense section: the values in flat row-major order, little-endian; a writer pads it with zeros to whole words. */
export function encodeDense(
  values: Float32Array<ArrayBuffer>,
  dtype: FloatDtype,
): Uint16Array<ArrayBuffer> | Float32Array<ArrayBuffer> {
  return dtype === 'f32' ? values : floatsToHalves(values)
}

/**
 * The values of a dense section.
 * @throws {TritswapError} `format` if the section is too short for `weights` values
 */
export function decodeDense(
  section: Uint8Array<ArrayBuffer>,
  weights: number,
  dtype: FloatDtype,
): Float32Array<ArrayBuffer> {
  const least = weights * FLOAT_BYTES[dtype]
  if (section.byteLength < least) {
    throw new TritswapError(
      'format',
      `Cannot decode a dense section: ${weights} ${dtype} values take ${least} bytes, it has ${section.byteLength}`,
      { fields: { weights, dtype, expected: least, found: section.byteLength } },
    )
  }
  const bytes = section.byteOffset % 4 === 0 ? section : section.slice()
  return dtype === 'f32'
    ? new Float32Array(bytes.buffer, bytes.byteOffset, weights).slice()
    : halvesToFloats(new Uint16Array(bytes.buffer, bytes.byteOffset, weights))
}
