import { TritswapError } from '../../errors.ts'
import { floatsToHalves, halvesToFloats } from '../float16.ts'

/** A dense section: the values in flat row-major order, little-endian, padded with zeros to whole words. */
export function encodeDense(
  values: Float32Array<ArrayBuffer>,
  dtype: 'f16' | 'f32',
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
  dtype: 'f16' | 'f32',
): Float32Array<ArrayBuffer> {
  const least = weights * (dtype === 'f32' ? 4 : 2)
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
