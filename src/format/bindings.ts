/**
 * The binding table of a prepared base: which graph inputs are fed from which tensors of the container, and where
 * in each buffer an element of a tensor lies. It is all that the GPU side needs to know of ONNX.
 *
 * @module
 */
import { formOf } from './codecs/index.ts'
import { type NBitsComponent, nbitsLayout } from './codecs/nbits_decode.ts'
import { ELEMENT_BYTES, INPUT_DTYPES, type InputDtype } from './dtype.ts'
import { array, integer, invalid, object, oneOf, shapeOf, text } from './fields.ts'
import {
  MAX_GRAPHS,
  MAX_NAME_LENGTH,
  MAX_PARTS,
  MAX_RANK,
  MAX_TENSOR_WEIGHTS,
  MAX_TENSORS,
} from './limits.ts'
import { endOf, meet, type Placement, type Strip, stripOf } from './placement.ts'
import type { Described } from './tensor.ts'
import { weightsOf } from './tiling.ts'

export type { Placement } from './placement.ts'

/**
 * A graph input that used to be an initializer. Its buffer is filled by the placements, which do not overlap.
 *
 * With `raw` it takes one component of quantized tensors as it is stored. Its placements are those of the component,
 * seen as a matrix with a row for each row of the quantized matrix; each is one contiguous run of whole words.
 */
export interface HoistedInput {
  /** Name in the graph. */
  name: string
  dtype: InputDtype
  dims: readonly number[]
  raw?: NBitsComponent
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

/**
 * Reads and checks a binding table: files stay inside the model folder, tensors exist, and the parts of an input
 * lie inside it and nowhere on each other.
 *
 * @param tensors - the tensors of the same container
 * @throws {TritswapError} `format` naming the field, what it should be and what it is; `limit` for sizes.
 */
export function bindingsFrom(value: unknown, tensors: readonly Described[]): BaseBindings {
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
  tensors: ReadonlyMap<string, Described>,
): HoistedInput {
  const raw = input.raw === undefined ? undefined : oneOf(input.raw, `${at}.raw`, COMPONENTS)
  const dtype = oneOf(input.dtype, `${at}.dtype`, INPUT_DTYPES)
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

const COMPONENTS = ['weights', 'scales', 'zeroPoints', 'minimums'] as const

/** A component as a matrix, where a tensor has it in the type that the input wants. */
function componentShape(
  tensor: Described,
  raw: NBitsComponent,
  dtype: HoistedInput['dtype'],
  field: string,
): number[] {
  const form = formOf(tensor)
  if (form.kind !== 'nbits') throw invalid(`${field}.tensor`, 'a quantized tensor', tensor.name)
  const { rows, components } = nbitsLayout(tensor.shape, form.code)
  const component = components[raw]
  if (component?.elementBytes !== ELEMENT_BYTES[dtype])
    throw invalid(`${field}.tensor`, `a tensor with ${raw} of ${dtype}`, tensor.name)
  return [rows, component.rowLength]
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
