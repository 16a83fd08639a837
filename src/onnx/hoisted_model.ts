/**
 * The whole surgery on a model of one or several graphs: find its parameters, name them, move them to inputs. Works
 * on bytes and byte sources, so the same code runs in Node and in a worker.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { BaseBindings } from '../format/index.ts'
import type { Checkpoint } from './checkpoint.ts'
import { dequantize } from './dequantize.ts'
import { type HoistedWeight, hoist, InputNames } from './hoist.ts'
import { checkedLocation, type ExternalFiles, initializerData, locateBytes } from './initializer.ts'
import { parseModel, serializeModel } from './model.ts'
import { type GraphProto, type ModelProto, TensorProto_DataLocation } from './onnx_pb.ts'
import { findParameters, quantizedNodes } from './parameters.ts'
import { type LocatedParameter, type ResolvedParameter, resolveParameters } from './resolve.ts'
import { indexGraph, liftConstants } from './uses.ts'

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
}

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
  /** Leave 4-bit weights as they are, out of reach of a merge; by default they become float inputs. */
  keepQuantized?: boolean
}

/** Rotary tables and the like are put inline; what is left of a quantized model beyond this stays external. */
const MAX_INLINE_BYTES = 256 << 20

/**
 * @throws {TritswapError} `input` for a malformed graph, or when the checkpoint is not the one it was exported from
 */
export async function hoistModel(
  files: readonly GraphFile[],
  { checkpoint, targets = () => true, keepQuantized = false }: HoistOptions = {},
): Promise<HoistedModel> {
  const models = files.map(({ file, bytes, external }) => {
    const model = parseModel(bytes, file)
    liftConstants(model.graph!)
    return { file, external, model, floats: keepQuantized ? undefined : dequantize(model.graph!, external) }
  })
  const located = models.flatMap(({ file, external, model, floats }) =>
    findParameters(indexGraph(model.graph!)).map((parameter): LocatedParameter => {
      const { tensor } = parameter
      return { file, parameter, data: floats?.data.get(tensor) ?? initializerData(tensor, external) }
    }),
  )
  const { resolved, unmatched } = await resolveParameters(located, checkpoint)
  if (checkpoint !== undefined && unmatched.length > resolved.length) {
    throw new TritswapError(
      'input',
      `Cannot prepare ${files[0].file} with ${checkpoint.name}: ${unmatched.length} of ${located.length} weights are not in it, first ${unmatched[0].parameter.tensor.name}; give the checkpoint that it was exported from`,
      { fields: { checkpoint: checkpoint.name, unmatched: unmatched.length, parameters: located.length } },
    )
  }
  const chosen = resolved.filter(({ parts }) => parts.some(({ tensor }) => targets(tensor)))
  const tensors = separateRoundings(chosen)
  if (chosen.length === 0) {
    throw new TritswapError(
      'input',
      `Cannot prepare ${files[0].file}: expected float weights to hoist, found ${resolved.length} and none that was asked for`,
      { fields: { file: files[0].file, weights: resolved.length } },
    )
  }

  const names = new InputNames()
  const graphs: HoistedGraphFile[] = []
  for (const { file, external, model, floats } of models) {
    const own = chosen.filter((entry) => entry.file === file)
    const weights = hoist(model.graph!, own, names)
    floats?.settle()
    const externalFiles = await inlineExternalData(model, external)
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

/**
 * Where a tied pair is quantized on one side only, each side keeps its own values: the quantized one becomes a tensor
 * of its own, with the checkpoint tensor as its target, so that an expert still changes both.
 */
function separateRoundings(chosen: readonly ResolvedParameter[]): Map<string, HoistedTensor> {
  const exact = new Set(
    chosen.flatMap(({ data, parts }) => (data.quantized ? [] : parts.map(({ tensor }) => tensor))),
  )
  const tensors = new Map<string, HoistedTensor>()
  for (const entry of chosen) {
    entry.parts = entry.parts.map((part) => {
      const target = part.tensor
      const tensor =
        entry.data.quantized && exact.has(target) ? `${target}@${entry.parameter.tensor.name}` : target
      tensors.set(tensor, { shape: entry.shapes.get(target)!, target })
      return { ...part, tensor }
    })
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
