/**
 * An ONNX model folder read as a checkpoint: its float initializers under the names and in the layout of the
 * checkpoint that it was exported from.
 *
 * @module
 */
import type { Checkpoint } from '../compress/checkpoint.ts'
import { TritswapError } from '../errors.ts'
import { onnxTensors } from '../model/onnx_checkpoint.ts'
import { externalFilesOf, type GraphFile, hoistModel, OnnxGraph } from '../onnx/index.ts'
import { type FileSource, openFile, readWhole } from './file_source.ts'
import { chooseGraphs, graphPath, openModelFolder } from './model_folder.ts'

/** @throws {TritswapError} `unsupported` for a quantized model, `input` where there is no float graph */
export async function openOnnxCheckpoint(path: string): Promise<Checkpoint> {
  const folder = await openModelFolder(path)
  const { graphs } = chooseGraphs(folder)
  const sources = new Map<string, FileSource>()
  const files: GraphFile[] = []
  for (const file of graphs) {
    const local = (name: string) => folder.root.path(graphPath(folder, name))
    const graph = new OnnxGraph(file, await readWhole(await local(file)))
    for (const location of [file, ...externalFilesOf(graph)]) {
      sources.set(location, await openFile(await local(location)))
    }
    files.push({ graph, external: (location) => sources.get(location)! })
  }
  const model = await hoistModel(files, { quantized: 'keep' })
  if (model.quantized.length > 0) {
    throw new TritswapError(
      'unsupported',
      `Cannot compare ${path}: ${model.quantized.length} of its weights are quantized, first ${model.quantized[0]}; use the fp32 or fp16 graphs of both models`,
      { fields: { path, quantized: model.quantized.length } },
    )
  }
  const tensors = onnxTensors(model)
  return { name: path, tensors, files: [...sources.values()], metadata: {}, converted: true }
}
