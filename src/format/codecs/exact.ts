import { integer, invalid, oneOf, overLimit } from '../fields.ts'
import { MAX_STREAM_BITS } from '../limits.ts'
import { forEachStep, STEP_UNITS, type Steps } from '../steps.ts'
import type { TensorCommon } from '../tensor.ts'
import { weightsOf } from '../tiling.ts'
import type { Codec } from './codec.ts'
import { decodeExact, type ExactCode, exactBits, MAX_EXACT_M, MAX_ORDER } from './exact_code.ts'

export interface ExactTensor extends TensorCommon, ExactCode {
  codec: 'exact'
  /**
   * Changed weights that differ from the fine-tuned ones rounded to binary16, where the base is held in binary16. 0: the result is
   * exact there too.
   */
  roundedInF16?: number
}

/** Weights that a fine-tuning changed, as steps from those of the base: the result is the fine-tuned tensor, bit for bit. */
export const exact: Codec<ExactTensor> = {
  name: 'exact',
  kinds: ['expert'],
  onlyDeltas: true,
  fieldsFrom(entry, at, shape) {
    if (entry.layout !== undefined)
      throw invalid(`${at}.layout`, 'none, as of all that has steps', entry.layout)
    const weights = weightsOf(shape)
    const kept = integer(entry.kept, `${at}.kept`, 1, weights)
    const far = integer(entry.far ?? 0, `${at}.far`, 0, kept)
    const code: Omit<ExactTensor, keyof TensorCommon | 'codec'> = {
      unit: oneOf(entry.unit, `${at}.unit`, STEP_UNITS),
      kept,
      m: integer(entry.m, `${at}.m`, 1, MAX_EXACT_M),
      far,
    }
    if (far > 0) {
      code.farM = integer(entry.farM, `${at}.farM`, 1, MAX_EXACT_M)
      code.order = integer(entry.order, `${at}.order`, 0, MAX_ORDER)
    }
    if (entry.roundedInF16 !== undefined)
      code.roundedInF16 = integer(entry.roundedInF16, `${at}.roundedInF16`, 0, kept)
    return code
  },
  fieldsToJson: ({ unit, kept, m, far, farM, order, roundedInF16 }) => ({
    unit,
    kept,
    m,
    far: far || undefined,
    farM,
    order,
    roundedInF16,
  }),
  checkBytes(tensor) {
    const { name, shape, bytes } = tensor
    if (bytes * 8 > MAX_STREAM_BITS) throw overLimit(`bits of ${name}`, bytes * 8, MAX_STREAM_BITS)
    const { least, most } = exactBits(weightsOf(shape), tensor)
    const [from, to] = [least, most].map((bits) => Math.ceil(bits / 32) * 4)
    if (bytes < from || bytes > to)
      throw invalid(`bytes of ${name}`, `${from} to ${to} bytes for ${tensor.kept} entries`, bytes)
  },
  summary: ({ kept, unit, roundedInF16 }) => ({ kept, unit, roundedInF16 }),
  form: ({ kept, unit }) => ({ kind: 'steps', kept, unit }),
  steps: stepsOf,
  decode(tensor, section) {
    const values = new Float32Array(weightsOf(tensor.shape))
    forEachStep(tensor.shape, stepsOf(tensor, section), (index, step) => {
      values[index] = step
    })
    return values
  },
}

function stepsOf(tensor: ExactTensor, section: Uint8Array<ArrayBuffer>): Steps {
  return decodeExact(tensor.shape, tensor, section)
}
