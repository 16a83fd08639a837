import { TritswapError } from '../../errors.ts'
import { wordsFor } from '../bits.ts'
import { integer, invalid, number } from '../fields.ts'
import { golombCode } from '../golomb.ts'
import { BLOCK_WEIGHTS, MAX_LENGTH_BITS, MAX_STREAM_BITS } from '../limits.ts'
import type { TensorCommon } from '../tensor.ts'
import { tilingOf, weightsOf } from '../tiling.ts'
import type { Codec } from './codec.ts'
import { decodeTernary, type TernaryCode, type TernarySection } from './ternary_decode.ts'

export interface TernaryTensor extends TensorCommon, TernaryCode {
  codec: 'ternary'
  /** Value of every kept entry but for its sign. Exact in f32. */
  scale: number
}

/** Values 0 and ±scale: Golomb-coded gaps and signs of the entries that are not 0. */
export const ternary: Codec<TernaryTensor> = {
  name: 'ternary',
  kinds: ['expert'],
  fieldsFrom: (entry, at, shape) => ({
    kept: integer(entry.kept, `${at}.kept`, 0, weightsOf(shape)),
    scale: Math.fround(number(entry.scale, `${at}.scale`)),
    m: integer(entry.m, `${at}.m`, 1, BLOCK_WEIGHTS),
    lengthMin: integer(entry.lengthMin, `${at}.lengthMin`, 0, 2 ** MAX_LENGTH_BITS - 1),
    lengthBits: integer(entry.lengthBits, `${at}.lengthBits`, 0, MAX_LENGTH_BITS),
  }),
  fieldsToJson: ({ kept, scale, m, lengthMin, lengthBits }) => ({
    kept,
    scale: shortest(scale),
    m,
    lengthMin,
    lengthBits,
  }),
  /**
   * After this, what the decoder allocates is at most 20 times the bytes of the section: 5 bytes for an entry that takes
   * no less than 2 bits.
   */
  checkBytes({ name, shape, bytes, kept, m, lengthMin, lengthBits }) {
    const { blocks } = tilingOf(shape)
    const index = wordsFor(blocks * lengthBits)
    const leastBits = Math.max(blocks * lengthMin, kept * (2 + golombCode(m).low))
    const mostBits = Math.min(blocks * (lengthMin + 2 ** lengthBits - 1), MAX_STREAM_BITS)
    const least = 4 * (index + wordsFor(leastBits))
    const most = 4 * (index + wordsFor(mostBits))
    if (bytes % 4 !== 0 || bytes < least || bytes > most)
      throw invalid(`bytes of ${name}`, `whole words, ${least} to ${most} bytes`, bytes)
  },
  summary: ({ kept, scale }) => ({ kept, scale }),
  form: ({ kept, m, lengthMin, lengthBits, scale }) => ({
    kind: 'golomb',
    code: { kept, m, lengthMin, lengthBits },
    scale,
  }),
  decode(tensor, section) {
    const { indices, negative } = decodeTernary(tensor.shape, ternarySection(tensor, section))
    const values = new Float32Array(weightsOf(tensor.shape))
    for (const [i, index] of indices.entries())
      values[index] = negative[i] === 1 ? -tensor.scale : tensor.scale
    return values
  },
  entries: (tensor, section) => decodeTernary(tensor.shape, ternarySection(tensor, section)),
}

/**
 * A ternary tensor's section as the decoder takes it.
 * @throws {TritswapError} `format` unless `bytes` are as many as the table says
 */
export function ternarySection(tensor: TernaryTensor, bytes: Uint8Array<ArrayBuffer>): TernarySection {
  const { kept, m, lengthMin, lengthBits } = tensor
  if (bytes.byteLength !== tensor.bytes) {
    throw new TritswapError(
      'format',
      `Cannot decode ${tensor.name}: expected a section of ${tensor.bytes} bytes, found ${bytes.byteLength}`,
      { fields: { tensor: tensor.name, expected: tensor.bytes, found: bytes.byteLength } },
    )
  }
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return {
    kept,
    m,
    lengthMin,
    lengthBits,
    words: new Uint32Array(aligned.buffer, aligned.byteOffset, tensor.bytes / 4),
  }
}

/** The shortest decimal that reads back to the same f32. */
function shortest(value: number): number {
  const exact = Math.fround(value)
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(exact.toPrecision(digits))
    if (Math.fround(short) === exact) return short
  }
  return Number(exact.toPrecision(9))
}
