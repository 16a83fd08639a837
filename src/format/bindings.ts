/**
 * The binding table of a prepared base: which graph inputs are fed from which tensors of the container, and where
 * in each buffer an element of a tensor lies. It is all that the GPU side needs to know of ONNX.
 *
 * @module
 */
import { type BlocksCode, type BlocksComponent, blocksLayout } from './codecs/nbits.ts'
import { array, integer, invalid, object, oneOf, shapeOf, text } from './fields.ts'
import {
  MAX_GRAPHS,
  MAX_NAME_LENGTH,
  MAX_PARTS,
  MAX_RANK,
  MAX_TENSOR_WEIGHTS,
  MAX_TENSORS,
} from './limits.ts'
import { tilingOf, weightsOf } from './tiling.ts'

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

/**
 * A graph input that used to be an initializer. Its buffer is filled by the placements, which do not overlap.
 *
 * With `raw` it takes one component of quantized tensors (codec `blocks`) as it is stored, and the placements are
 * those of the component, seen as a matrix with a row for each row of the quantized matrix: one run, from word to word.
 */
export interface HoistedInput {
  /** Name in the graph. */
  name: string
  dtype: 'float32' | 'float16' | 'uint8'
  dims: readonly number[]
  raw?: BlocksComponent
  parts: readonly Placement[]
}

export interface HoistedGraph {
  /** Path of the graph in the model folder, e.g. `onnx/model.onnx`. */
  file: string
  inputs: readonly HoistedInput[]
}

/** `TritTable.bindings` of a base container. */
export interface BaseBindings {
  graphs: readonly HoistedGraph[]
}

/** What a binding table has to know of the tensors of its container. */
type BoundTensor = { readonly name: string; readonly shape: readonly number[] } & (
  | { readonly codec?: 'dense' | 'ternary' }
  | ({ readonly codec: 'blocks' } & BlocksCode)
)

/**
 * Reads and checks a binding table: files stay inside the model folder, tensors exist, and the parts of an input
 * lie inside it and nowhere on each other.
 *
 * @param tensors - the tensors of the same container
 * @throws {TritswapError} `format` naming the field, what it should be and what it is; `limit` for sizes.
 */
export function bindingsFrom(value: unknown, tensors: readonly BoundTensor[]): BaseBindings {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const files = new Set<string>()
  return {
    graphs: array(object(value, 'bindings').graphs, 'bindings.graphs', MAX_GRAPHS).map((item, g) => {
      const at = `bindings.graphs[${g}]`
      const graph = object(item, at)
      const file = pathInFolder(graph.file, `${at}.file`)
      if (files.has(file)) throw invalid(`${at}.file`, 'a graph that is not listed yet', file)
      files.add(file)
      const names = new Set<string>()
      const inputs = array(graph.inputs, `${at}.inputs`, MAX_TENSORS).map((input, i) => {
        const hoisted = inputFrom(object(input, `${at}.inputs[${i}]`), `${at}.inputs[${i}]`, byName)
        if (names.has(hoisted.name))
          throw invalid(`${at}.inputs[${i}].name`, 'a name that is not taken', hoisted.name)
        names.add(hoisted.name)
        return hoisted
      })
      return { file, inputs }
    }),
  }
}

function inputFrom(
  input: Record<string, unknown>,
  at: string,
  tensors: ReadonlyMap<string, BoundTensor>,
): HoistedInput {
  const raw = input.raw === undefined ? undefined : oneOf(input.raw, `${at}.raw`, COMPONENTS)
  const dtype = oneOf(input.dtype, `${at}.dtype`, DTYPES)
  if (raw === undefined && dtype === 'uint8') throw invalid(`${at}.dtype`, 'a float type', dtype)
  const dims = shapeOf(input.dims, `${at}.dims`, MAX_RANK, MAX_TENSOR_WEIGHTS)
  const elements = weightsOf(dims)
  const taken: Strip[] = []
  const parts = array(input.parts, `${at}.parts`, MAX_PARTS).map((item, p) => {
    const field = `${at}.parts[${p}]`
    const part = object(item, field)
    const tensor = text(part.tensor, `${field}.tensor`, MAX_NAME_LENGTH)
    const found = tensors.get(tensor)
    if (found === undefined) throw invalid(`${field}.tensor`, 'a tensor of this file', tensor)
    const shape = raw === undefined ? found.shape : componentShape(found, raw, dtype, field)
    const placement = {
      tensor,
      offset: integer(part.offset, `${field}.offset`, 0, elements - 1),
      rowStride: integer(part.rowStride, `${field}.rowStride`, 0, elements),
      colStride: integer(part.colStride, `${field}.colStride`, 0, elements),
    }
    const { offset, rowStride, colStride } = placement
    const said = `${offset} + r·${rowStride} + c·${colStride} for ${tensor}`
    const strip = stripOf(placement, shape)
    if (strip === undefined) {
      throw invalid(field, 'strides that give rows or columns without overlap', said)
    }
    if (
      raw !== undefined &&
      (strip.count > 1 || colStride !== 1 || (offset * ELEMENT_BYTES[dtype]) % 4 !== 0)
    )
      throw invalid(field, 'one run that starts at a whole word', said)
    if (endOf(strip) > elements) throw invalid(field, `a place inside ${elements} elements`, said)
    const other = taken.findIndex((earlier) => meet(earlier, strip))
    if (other >= 0) throw invalid(field, `a place apart from parts[${other}]`, said)
    taken.push(strip)
    return placement
  })
  return {
    name: text(input.name, `${at}.name`, MAX_NAME_LENGTH),
    dtype,
    dims,
    ...(raw === undefined ? {} : { raw }),
    parts,
  }
}

const DTYPES = ['float32', 'float16', 'uint8'] as const
const COMPONENTS = ['weights', 'scales', 'zeroPoints'] as const

/** Bytes of an element of an input. */
export const ELEMENT_BYTES = { float32: 4, float16: 2, uint8: 1 } as const

/** A component as a matrix, where a tensor has it in the type that the input wants. */
function componentShape(
  tensor: BoundTensor,
  raw: BlocksComponent,
  dtype: HoistedInput['dtype'],
  field: string,
): number[] {
  if (tensor.codec !== 'blocks') throw invalid(`${field}.tensor`, 'a quantized tensor', tensor.name)
  const { rows, components } = blocksLayout(tensor.shape, tensor)
  const component = components[raw]
  if (component?.elementBytes !== ELEMENT_BYTES[dtype])
    throw invalid(`${field}.tensor`, `a tensor with ${raw} of ${dtype}`, tensor.name)
  return [rows, component.rowLength]
}

/** Elements `start + i·pitch + j` for i < count, j < length ≤ pitch: what every placement in use comes down to. */
interface Strip {
  start: number
  count: number
  length: number
  pitch: number
}

/** A placement as a strip, or undefined if it is none: elements that coincide, or gaps in both directions. */
function stripOf({ offset, rowStride, colStride }: Placement, shape: readonly number[]): Strip | undefined {
  const { rows, cols } = tilingOf(shape)
  // An axis of one element has no use for its stride.
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

function endOf({ start, count, length, pitch }: Strip): number {
  return start + (count - 1) * pitch + length
}

/**
 * Whether two strips share an element. Exact for a run against any strip, and for strips of one pitch; strips of
 * different pitches that lie in each other's range count as meeting, since no layout in use needs them.
 */
function meet(a: Strip, b: Strip): boolean {
  if (a.start >= endOf(b) || b.start >= endOf(a)) return false
  if (a.count === 1) return runMeets(a, b)
  if (b.count === 1) return runMeets(b, a)
  if (a.pitch !== b.pitch) return true
  // Of one pitch: b starts `rows` pitches and `left` elements after a, and may reach into a's next row.
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

/** A relative path with forward slashes that does not leave its folder. */
function pathInFolder(value: unknown, field: string): string {
  const path = text(value, field, MAX_NAME_LENGTH)
  const steps = path.split('/')
  if (/[\\:?#%\0]/.test(path) || steps.some((step) => step === '' || step === '.' || step === '..')) {
    throw invalid(field, 'a path inside the model folder', path)
  }
  return path
}
