/**
 * The whole surgery on a model of one or several graphs: find its parameters, name them, move them to inputs. Works
 * on bytes and byte sources, so the same code runs in Node and in a worker.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { indexGraph } from '../graph/graph_index.ts'
import type { GraphFile } from '../graph/onnx_graph.ts'
import { initializerData } from '../proto/initializer_data.ts'
import { findIntegers } from '../quantized/find_integers.ts'
import type { Checkpoint } from '../resolve/checkpoint.ts'
import { isJoined } from '../resolve/joined_projections.ts'
import { findParameters } from '../resolve/parameters.ts'
import type { LocatedParameter, Resolution, ResolvedParameter } from '../resolve/resolution.ts'
import { resolveParameters } from '../resolve/resolve.ts'
import { unfold } from '../unfold/unfold.ts'
import type { HoistedModel } from './hoisted_model.ts'
import { InputNames } from './input_names.ts'
import { withOffset } from './offset_values.ts'
import { editable, finish, hoist, type ViewedGraph, view } from './rewrite.ts'
import { separateRoundings } from './roundings.ts'
import { canStayQuantized } from './tensor_rows.ts'

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

export interface HoistOptions {
  checkpoint?: Checkpoint
  /** Which checkpoint tensors to hoist; all by default. */
  targets?: (tensor: string) => boolean
  /** `float` by default. */
  quantized?: QuantizedChoice
  /** `model_type` of config.json: some models' norms are folded into 1 + weight, which names alone do not tell. */
  modelType?: string
}

/**
 * @throws {TritswapError} `input` for a malformed graph, or when the checkpoint is not the one it was exported from
 */
export async function hoistModel(
  files: readonly GraphFile[],
  { checkpoint, targets = () => true, quantized = 'float', modelType }: HoistOptions = {},
): Promise<HoistedModel> {
  const isOne = (parameter: string) =>
    targets(parameter) && isJoined(parameter, { checkpoint, modelType }) === true
  const found = files.map((file) => view(file, isOne))
  const options = { checkpoint, modelType }
  const first = await resolveParameters(found.flatMap(locate), options)
  const viewed = checkpoint === undefined ? found : await unfolded(found, first, { checkpoint, targets })
  const located = viewed.flatMap(locate)
  const { resolved, unmatched } = viewed === found ? first : await resolveParameters(located, options)
  if (checkpoint !== undefined) checkCheckpoint(checkpoint, located, { resolved, unmatched })
  const chosen = resolved
    .filter(({ parts }) => parts.some(({ tensor }) => targets(tensor)))
    .filter((entry) => quantized === 'float' || canStayQuantized(entry))
    .map(withoutAddend)
  if (chosen.length === 0) {
    const { file } = viewed[0]
    throw new TritswapError(
      'input',
      `Cannot prepare ${file}: expected float weights to hoist, found ${resolved.length} and none that was asked for`,
      { fields: { file, weights: resolved.length } },
    )
  }
  const { parameters, tensors } = separateRoundings(chosen)
  const integers = await findIntegers(files.map(editable), options)
  const staysQuantized = ({ data }: ResolvedParameter) => quantized === 'keep' && data.matrix !== undefined
  const names = new InputNames()
  const graphs = []
  for (const graph of viewed) {
    const own = parameters.filter(({ file }) => file === graph.file)
    const choice = {
      floats: own.filter((entry) => !staysQuantized(entry)),
      quantized: own.filter(staysQuantized),
    }
    graphs.push(await finish(hoist(graph, choice, names), integers.get(graph.file) ?? []))
  }
  return {
    graphs,
    tensors,
    unmatched: unmatched.map(({ parameter }) => parameter.tensor.name),
    quantized: graphs.flatMap((graph) => graph.quantized),
  }
}

/** The parameters of a graph with their data. */
function locate({ file, external, view }: ViewedGraph): LocatedParameter[] {
  return findParameters(indexGraph(view.main)).map((parameter) => {
    const { tensor } = parameter
    return { file, parameter, data: view.data.get(tensor) ?? initializerData(tensor, external) }
  })
}

/** The graphs with the tensors of the checkpoint in place of what their exporter made of them; the same where it made nothing. */
async function unfolded(
  graphs: ViewedGraph[],
  { resolved }: Resolution,
  { checkpoint, targets }: Required<Pick<HoistOptions, 'checkpoint' | 'targets'>>,
): Promise<ViewedGraph[]> {
  const externals = await Promise.all(
    graphs.map(({ file, model, external, view }) => {
      const own = resolved.filter((entry) => entry.file === file).map(({ parameter }) => parameter.tensor)
      const known = new Set([...own, ...view.data.keys()])
      return unfold({ model, main: view.main, external }, known, checkpoint, targets)
    }),
  )
  if (externals.every((external) => external === undefined)) return graphs
  return graphs.map((graph, i) => ({ ...graph, external: externals[i] ?? graph.external }))
}

/** @throws {TritswapError} `input` where most weights are not in the checkpoint */
function checkCheckpoint(
  { name }: Checkpoint,
  located: readonly LocatedParameter[],
  { resolved, unmatched }: Resolution,
): void {
  // A folded weight says nothing of the checkpoint.
  const strange = unmatched.filter(({ parameter }) => !parameter.folded)
  if (strange.length <= resolved.length) return
  const [{ file }] = located
  const parameters = located.length
  throw new TritswapError(
    'input',
    `Cannot prepare ${file} with ${name}: ${strange.length} of ${parameters} weights are not in it, first ${strange[0].parameter.tensor.name}; give the checkpoint that it was exported from`,
    { fields: { checkpoint: name, unmatched: strange.length, parameters } },
  )
}

/** A parameter with the values of the checkpoint, where the graph has something added to them. */
function withoutAddend(entry: ResolvedParameter): ResolvedParameter {
  return entry.addend === undefined ? entry : { ...entry, data: withOffset(entry.data, -entry.addend) }
}
