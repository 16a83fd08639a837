/**
 * The whole surgery on a model of one or several graphs: find its parameters, name them, move them to inputs. Works
 * on bytes and byte sources, so the same code runs in Node and in a worker.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { type BaseBindings, type BlocksCode, type Placement, tilingOf } from '../../format/index.ts'
import { indexGraph, liftConstants } from '../graph/graph_index.ts'
import {
  checkedLocation,
  type ExternalFiles,
  type InitializerData,
  initializerData,
  locateBytes,
  type QuantizedMatrix,
} from '../proto/initializer.ts'
import { parseModel, serializeModel } from '../proto/model.ts'
import { type GraphProto, type ModelProto, TensorProto_DataLocation } from '../proto/onnx_pb.ts'
import { type Dequantized, dequantize } from '../quantized/dequantize.ts'
import { findIntegers, recordIntegers } from '../quantized/integers.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { findParameters, quantizedNodes } from '../resolve/parameters.ts'
import { type LocatedParameter, type ResolvedParameter, resolveParameters } from '../resolve/resolve.ts'
import {
  type HoistedWeight,
  hoist,
  hoistQuantized,
  InputNames,
  isAligned,
  type QuantizedWeight,
} from './hoist.ts'
import { withOffset } from './offset_values.ts'

/** One graph of a model as it lies in its folder. */
export interface GraphFile {
  /** Path in the model folder, e.g. `onnx/model.onnx`. */
  file: string
  bytes: Uint8Array
  external: ExternalFiles
}

export interface HoistedGraphFile {
  file: string
  /** The ONNX file without the weights. */
  bytes: Uint8Array<ArrayBuffer>
  weights: HoistedWeight[]
  /** External-data files that the graph still needs, because what is left in them is too much to put inline. */
  externalFiles: string[]
}

/** A tensor of the weights file. */
export interface HoistedTensor {
  shape: readonly number[]
  /** The checkpoint tensor that it is: its own name, unless it is another rounding of one that is there as well. */
  target: string
  /** A place that holds it: others hold the same values. */
  home: { data: InitializerData; part: Placement }
  /** What it is quantized as; undefined for float weights. */
  blocks?: TensorBlocks
}

/** A tensor as rows of a quantized matrix. */
export interface TensorBlocks {
  code: BlocksCode
  matrix: QuantizedMatrix
  firstRow: number
  /** Rows of the matrix. */
  rows: number
}

/**
 * What becomes of weights that are quantized by blocks (MatMulNBits, GatherBlockQuantized). `float`: their nodes become
 * MatMul and Gather, over inputs of floats. `keep`: integers, scales and zero points become inputs as they are, out of
 * reach of a merge. Both travel as they were quantized.
 *
 * Integer weights of other operators stay in their graph. MatMulInteger and ConvInteger run on onnxruntime-web's CPU
 * backend, and most of their weights are int8, which it takes from no GPU buffer: as inputs they would cross into
 * its memory at every run.
 */
export type QuantizedChoice = 'float' | 'keep'

export interface HoistedModel {
  graphs: HoistedGraphFile[]
  /** What feeds the inputs, in order of first use: the tensors of the weights file. */
  tensors: Map<string, HoistedTensor>
  /** Parameters that stayed in their graph because the checkpoint holds no such values. */
  unmatched: string[]
  /** Nodes whose weights stayed quantized. */
  quantized: string[]
}

export interface HoistOptions {
  checkpoint?: Checkpoint
  /** Which checkpoint tensors to hoist; all by default. */
  targets?: (tensor: string) => boolean
  /** `float` by default. */
  quantized?: QuantizedChoice
  /** `model_type` of config.json: some models' norms are folded into 1 + weight, which names alone do not tell. */
  modelType?: string
}

/** Rotary tables and the like are put inline; what is left of a quantized model beyond this stays external. */
const MAX_INLINE_BYTES = 256 << 20

/**
 * @throws {TritswapError} `input` for a malformed graph, or when the checkpoint is not the one it was exported from
 */
export async function hoistModel(
  files: readonly GraphFile[],
  { checkpoint, targets = () => true, quantized = 'float', modelType }: HoistOptions = {},
): Promise<HoistedModel> {
  const models = files.map(({ file, bytes, external }) => {
    const model = parseModel(bytes, file)
    liftConstants(model.graph!)
    return { file, external, model, floats: dequantize(model.graph!, external) }
  })
  const located = models.flatMap(({ file, external, model, floats }) =>
    findParameters(indexGraph(model.graph!)).map((parameter): LocatedParameter => {
      const { tensor } = parameter
      return { file, parameter, data: floats.data.get(tensor) ?? initializerData(tensor, external) }
    }),
  )
  const { resolved, unmatched } = await resolveParameters(located, { checkpoint, modelType })
  // What is folded says nothing of the checkpoint.
  const strange = unmatched.filter(({ parameter }) => !parameter.folded)
  if (checkpoint !== undefined && strange.length > resolved.length) {
    throw new TritswapError(
      'input',
      `Cannot prepare ${files[0].file} with ${checkpoint.name}: ${strange.length} of ${located.length} weights are not in it, first ${strange[0].parameter.tensor.name}; give the checkpoint that it was exported from`,
      { fields: { checkpoint: checkpoint.name, unmatched: strange.length, parameters: located.length } },
    )
  }
  const chosen = resolved.filter(({ parts }) => parts.some(({ tensor }) => targets(tensor)))
  for (const entry of chosen) if (entry.shift !== undefined) entry.data = withOffset(entry.data, -entry.shift)
  const hoisted = chosen.filter((entry) => quantized === 'float' || canHoist(entry))
  const tensors = separateRoundings(hoisted)
  if (hoisted.length === 0) {
    throw new TritswapError(
      'input',
      `Cannot prepare ${files[0].file}: expected float weights to hoist, found ${resolved.length} and none that was asked for`,
      { fields: { file: files[0].file, weights: resolved.length } },
    )
  }

  const integers = await findIntegers(files, { checkpoint, modelType })
  const names = new InputNames()
  const graphs: HoistedGraphFile[] = []
  for (const { file, external, model, floats } of models) {
    const own = hoisted.filter((entry) => entry.file === file)
    const isQuantized = ({ data }: ResolvedParameter) => quantized === 'keep' && data.matrix !== undefined
    const kept = own.filter(isQuantized).map((entry) => keptWeight(entry, floats))
    const weights = hoist(
      model.graph!,
      own.filter((entry) => !isQuantized(entry)),
      names,
    )
    floats.settle()
    weights.push(...hoistQuantized(model.graph!, kept, names))
    floats.finish()
    const externalFiles = await inlineExternalData(model, external)
    recordIntegers(model, integers.get(file) ?? [])
    graphs.push({
      file,
      bytes: serializeModel(model),
      weights,
      externalFiles,
    })
  }
  return {
    graphs,
    tensors,
    unmatched: unmatched.map(({ parameter }) => parameter.tensor.name),
    quantized: models.flatMap(({ model }) => quantizedNodes(indexGraph(model.graph!))),
  }
}

/** Float weights, and quantized ones whose components can be fed from those of their tensors. */
function canHoist({ data, parts, shapes }: ResolvedParameter): boolean {
  const { matrix } = data
  if (matrix === undefined) return true
  const rows = parts.map((part) => blocksOf(matrix, shapes.get(part.tensor)!, part))
  const found = rows.filter((blocks) => blocks !== undefined)
  return (
    found.length === parts.length &&
    isAligned({ matrix, parts: found.map(({ firstRow }, i) => ({ tensor: parts[i].tensor, firstRow })) })
  )
}

function keptWeight(
  { parameter, uses, data, parts, shapes }: ResolvedParameter,
  floats: Dequantized,
): QuantizedWeight {
  const matrix = data.matrix!
  return {
    matrix,
    nodes: floats.nodesOf(parameter.tensor, uses),
    parts: parts.map((part) => ({
      tensor: part.tensor,
      firstRow: blocksOf(matrix, shapes.get(part.tensor)!, part)!.firstRow,
    })),
  }
}

/** A tensor as rows of the quantized matrix that it lies in, if that is what it is. */
function blocksOf(
  matrix: QuantizedMatrix,
  shape: readonly number[],
  { offset, rowStride, colStride }: Placement,
): TensorBlocks | undefined {
  const tensor = tilingOf(shape)
  const { rows, cols, layout, bits, blockSize, dtype, zeroPoints } = matrix
  // Steps in the float initializer from one row of the matrix to the next, and from one column to the next.
  const [down, right] = layout === 'transposed' ? [1, rows] : [cols, 1]
  const lies = (height: number, width: number, rowStep: number, colStep: number) =>
    width === cols && (height === 1 || rowStep === down) && (width === 1 || colStep === right)
  const transposed = !lies(tensor.rows, tensor.cols, rowStride, colStride)
  if (transposed && !lies(tensor.cols, tensor.rows, colStride, rowStride)) return undefined
  const firstRow = offset / down
  const height = transposed ? tensor.cols : tensor.rows
  if (!Number.isInteger(firstRow) || firstRow + height > rows) return undefined
  const code: BlocksCode = { bits, blockSize, dtype }
  if (zeroPoints !== undefined) code.zeroPoints = zeroPoints
  if (transposed) code.transposed = true
  return { code, matrix, firstRow, rows: height }
}

/**
 * Where a tied tensor is quantized on one side only, or in two ways, each place keeps its own values: the first of a
 * kind is the checkpoint's tensor, others become tensors of their own with that as their target, so that an expert
 * still changes all.
 */
function separateRoundings(chosen: readonly ResolvedParameter[]): Map<string, HoistedTensor> {
  const kindOf = ({ matrix }: InitializerData) => {
    if (matrix === undefined) return ''
    const { bits, blockSize, dtype, zeroPoints } = matrix
    return [bits, blockSize, dtype, zeroPoints].join()
  }
  const kinds = new Map<string, Map<string, string>>()
  const tensors = new Map<string, HoistedTensor>()
  // Exact values take the name where there are any.
  const exactFirst = [...chosen].sort((a, b) => Number(!!a.data.matrix) - Number(!!b.data.matrix))
  for (const { data, parts, parameter } of exactFirst) {
    for (const { tensor: target } of parts) {
      const names = kinds.get(target) ?? new Map<string, string>()
      kinds.set(target, names)
      const kind = kindOf(data)
      if (!names.has(kind)) names.set(kind, names.size === 0 ? target : `${target}@${parameter.tensor.name}`)
    }
  }
  for (const entry of chosen) {
    const shapes = new Map(entry.shapes)
    entry.parts = entry.parts.map((part) => {
      const target = part.tensor
      const shape = entry.shapes.get(target)!
      const tensor = kinds.get(target)!.get(kindOf(entry.data))!
      shapes.set(tensor, shape)
      const { data } = entry
      const blocks = data.matrix && blocksOf(data.matrix, shape, part)
      if (!tensors.has(tensor)) tensors.set(tensor, { shape, target, home: { data, part }, blocks })
      return { ...part, tensor }
    })
    entry.shapes = shapes
  }
  return tensors
}

/** The table for `TritTable.bindings`. */
export function bindingsOf({ graphs }: HoistedModel): BaseBindings {
  return {
    graphs: graphs
      .filter(({ weights }) => weights.length > 0)
      .map(({ file, weights }) => ({ file, inputs: weights.map(({ input }) => input) })),
  }
}

/** Data files that a graph needs beside itself. @throws {TritswapError} `input` */
export function externalFilesOf(bytes: Uint8Array, file: string): string[] {
  const { graph } = parseModel(bytes, file)
  const locations = indexGraph(graph as GraphProto).initializers.flatMap(({ tensor }) =>
    tensor.dataLocation === TensorProto_DataLocation.EXTERNAL
      ? [checkedLocation(tensor.externalData.find(({ key }) => key === 'location')?.value ?? '', tensor.name)]
      : [],
  )
  return [...new Set(locations)].sort()
}

/** @returns the files still needed */
async function inlineExternalData(model: ModelProto, external: ExternalFiles): Promise<string[]> {
  const entries = indexGraph(model.graph as GraphProto)
    .initializers.map(({ tensor }) => tensor)
    .filter((tensor) => tensor.dataLocation === TensorProto_DataLocation.EXTERNAL)
    .map((tensor) => ({ tensor, ...locateBytes(tensor, external) }))
  const total = entries.reduce((sum, { bytes }) => sum + bytes, 0)
  if (total > MAX_INLINE_BYTES) return [...new Set(entries.map(({ source }) => source.name))].sort()
  for (const { tensor, source, offset, bytes } of entries) {
    tensor.rawData = await source.read(offset, bytes)
    tensor.dataLocation = TensorProto_DataLocation.DEFAULT
    tensor.externalData = []
  }
  return []
}
