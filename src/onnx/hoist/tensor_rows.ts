import type { NBitsCode, NBitsComponent } from '../../format/codecs/nbits_decode.ts'
import { type Placement, tilingOf } from '../../format/index.ts'
import type { QuantizedMatrix } from '../proto/initializer_data.ts'
import type { RawInitializer } from '../proto/tensor_bytes.ts'
import type { ResolvedParameter } from '../resolve/resolution.ts'
import { isAligned } from './hoist_quantized.ts'

/** A tensor as rows of a quantized matrix, whose components lie in files of any kind. */
export interface TensorRows {
  code: NBitsCode
  matrix: { components: Partial<Record<NBitsComponent, Pick<RawInitializer, 'source' | 'offset'>>> }
  firstRow: number
}

/** A tensor as rows of the quantized matrix that it lies in, if that is what it is. */
export function rowsOf(
  matrix: QuantizedMatrix,
  shape: readonly number[],
  { offset, rowStride, colStride }: Placement,
): TensorRows | undefined {
  const tensor = tilingOf(shape)
  const { rows, cols, layout, bits, blockSize, dtype, zeroPoints } = matrix
  // Steps in the float initializer from one row of the matrix to the next, and from one column to the next.
  const [rowStep, colStep] = layout === 'transposed' ? [1, rows] : [cols, 1]
  const lies = (height: number, width: number, heightStride: number, widthStride: number) =>
    width === cols && (height === 1 || heightStride === rowStep) && (width === 1 || widthStride === colStep)
  const transposed = !lies(tensor.rows, tensor.cols, rowStride, colStride)
  if (transposed && !lies(tensor.cols, tensor.rows, colStride, rowStride)) return undefined
  const firstRow = offset / rowStep
  const height = transposed ? tensor.cols : tensor.rows
  if (!Number.isInteger(firstRow) || firstRow + height > rows) return undefined
  const code: NBitsCode = { bits, blockSize, dtype }
  if (zeroPoints !== undefined) code.zeroPoints = zeroPoints
  if (transposed) code.transposed = true
  return { code, matrix, firstRow }
}

/** First rows of the tensors that a quantized parameter is made of; undefined where one is something else than rows. */
export function firstRowsOf(
  matrix: QuantizedMatrix,
  { parts, shapes }: Pick<ResolvedParameter, 'parts' | 'shapes'>,
): { tensor: string; firstRow: number }[] | undefined {
  const found = parts.flatMap((part) => {
    const rows = rowsOf(matrix, shapes.get(part.tensor)!, part)
    return rows === undefined ? [] : [{ tensor: part.tensor, firstRow: rows.firstRow }]
  })
  return found.length === parts.length ? found : undefined
}

/** Whether a parameter is in floats, or quantized and its components can be fed from those of its tensors. */
export function canStayQuantized(entry: ResolvedParameter): boolean {
  const { matrix } = entry.data
  if (matrix === undefined) return true
  const parts = firstRowsOf(matrix, entry)
  return parts !== undefined && isAligned({ matrix, parts })
}
