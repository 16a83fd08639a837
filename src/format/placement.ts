import { tilingOf } from './tiling.ts'

/**
 * Where the elements of one tensor (seen as the `rows × cols` matrix of `tilingOf`) lie in a buffer: element (r, c)
 * is at flat element index `offset + r·rowStride + c·colStride`. Row-major [out, in] is (0, cols, 1), the transposed
 * [in, out] of ONNX MatMul is (0, 1, rows), and one third of a fused qkv projection [in, q + k + v] is
 * (start, 1, q + k + v).
 */
export interface Placement {
  tensor: string
  offset: number
  rowStride: number
  colStride: number
}

/** Elements `start + i·pitch + j` for i < count, j < length ≤ pitch: the form of every placement in use. */
export interface Strip {
  start: number
  count: number
  length: number
  pitch: number
}

/** A placement as a strip; undefined where elements coincide, or where there are gaps in both directions. */
export function stripOf(
  { offset, rowStride, colStride }: Placement,
  shape: readonly number[],
): Strip | undefined {
  const { rows, cols } = tilingOf(shape)
  // The stride of an axis with one element means nothing.
  const axes = [
    { size: rows, stride: rowStride },
    { size: cols, stride: colStride },
  ].filter(({ size }) => size > 1)
  const inner = axes.find(({ stride }) => stride === 1) ?? { size: 1, stride: 1 }
  const [outer = { size: 1, stride: inner.size }, ...rest] = axes.filter((axis) => axis !== inner)
  if (rest.length > 0 || outer.stride < inner.size) return undefined
  return outer.stride === inner.size
    ? { start: offset, count: 1, length: outer.size * inner.size, pitch: outer.size * inner.size }
    : { start: offset, count: outer.size, length: inner.size, pitch: outer.stride }
}

export function endOf({ start, count, length, pitch }: Strip): number {
  return start + (count - 1) * pitch + length
}

/**
 * Whether two strips share an element. Exact for a contiguous run against any strip, and for strips of equal pitch;
 * strips of different pitches whose ranges overlap count as sharing one, since no layout in use needs them.
 */
export function meet(a: Strip, b: Strip): boolean {
  if (a.start >= endOf(b) || b.start >= endOf(a)) return false
  if (a.count === 1) return runMeets(a, b)
  if (b.count === 1) return runMeets(b, a)
  if (a.pitch !== b.pitch) return true
  // Of equal pitch: b starts `rows` pitches and `left` elements after a, and may reach into a's next row.
  const rows = Math.floor((b.start - a.start) / a.pitch)
  const left = b.start - a.start - rows * a.pitch
  const together = (shift: number) => shift < a.count && shift > -b.count
  return (left < a.length && together(rows)) || (left + b.length > a.pitch && together(rows + 1))
}

/** Whether a contiguous run has an element of a strip: the first row of the strip that ends after its start does. */
function runMeets(run: Strip, strip: Strip): boolean {
  const row = Math.max(0, Math.floor((run.start - strip.start - strip.length) / strip.pitch) + 1)
  return row < strip.count && strip.start + row * strip.pitch < run.start + run.length
}
