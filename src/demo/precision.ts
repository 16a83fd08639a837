import { readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { toHalf } from '../format/index.ts'

/** Bits of precision of the dtypes of weights. */
const PRECISION: Record<string, number> = { BF16: 8, F16: 11, F32: 24, F64: 53 }

const SLICE = 1 << 20

/**
 * Whether two tensors are equal as far as the coarser of their dtypes can tell: a weight that was not trained differs
 * from the base only by the rounding of the one that was saved in fewer bits.
 */
export async function sameButForRounding(
  a: StoredTensor,
  b: StoredTensor,
  signal?: AbortSignal,
): Promise<boolean> {
  if (a.dtype === b.dtype || a.weights !== b.weights) return false
  const coarser = (PRECISION[a.dtype] ?? 0) < (PRECISION[b.dtype] ?? 0) ? a.dtype : b.dtype
  const round = { F16: toHalf, BF16: toBfloat }[coarser] ?? Math.fround
  for (let from = 0; from < a.weights; from += SLICE) {
    const count = Math.min(SLICE, a.weights - from)
    const [x, y] = await Promise.all([
      readFloats(a, from, count, { signal }),
      readFloats(b, from, count, { signal }),
    ])
    for (let i = 0; i < count; i++) if (round(x[i]) !== round(y[i])) return false
  }
  return true
}

const word = new Uint32Array(1)
const float = new Float32Array(word.buffer)

/** The 16 bits of the nearest bfloat16, ties to even. */
function toBfloat(value: number): number {
  float[0] = value
  return (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) >>> 16
}
