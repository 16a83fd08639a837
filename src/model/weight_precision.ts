/**
 * What the weights of a base are rounded to, which decides how far they may be from those of their checkpoint.
 *
 * @module
 */
import { formOf, summaryOf } from '../format/codecs/index.ts'
import type { BaseBindings, TritTable, TritTensor, WeightDtype } from '../format/index.ts'

/** How near weights are to those of their checkpoint, judged by the coarsest of them; undefined for float weights. */
export function precisionOf({ tensors }: Pick<TritTable, 'tensors'>): WeightDtype | undefined {
  const bits = tensors.flatMap((tensor) => summaryOf(tensor).bits ?? [])
  return bits.length === 0 ? undefined : dtypeOfBits(Math.min(...bits))
}

/** The same by what transformers.js calls a graph; for weights that were dequantized before they were stored. */
export function precisionNamed(dtype: string): WeightDtype | undefined {
  if (/[12](f16)?$/.test(dtype) && dtype.startsWith('q')) return 'q2'
  if (/4/.test(dtype)) return 'q4'
  return /8$|^quantized$/.test(dtype) ? 'q8' : undefined
}

/** Quantized tensors by name. */
export function quantizedDtypes(tensors: readonly TritTensor[]): Map<string, WeightDtype> {
  return new Map(
    tensors.flatMap((tensor) => {
      const { bits } = summaryOf(tensor)
      return bits === undefined ? [] : [[tensor.name, dtypeOfBits(bits)]]
    }),
  )
}

/** Weights that share a scale, by the names of quantized tensors. */
export function blockSizesOf(tensors: readonly TritTensor[]): Map<string, number> {
  return new Map(
    tensors.flatMap((tensor) => {
      const form = formOf(tensor)
      return form.kind === 'nbits' ? [[tensor.name, form.code.blockSize]] : []
    }),
  )
}

/** Type of the floats that feed the graphs. */
export function floatDtypeOf({ graphs }: BaseBindings): 'f32' | 'f16' {
  return graphs.some(({ inputs }) => inputs.some(({ dtype }) => dtype === 'float16')) ? 'f16' : 'f32'
}

function dtypeOfBits(bits: number): WeightDtype {
  if (bits < 4) return 'q2'
  return bits < 8 ? 'q4' : 'q8'
}
