/**
 * Which graph of a model folder a running session was made from: its file name is lost, its inputs and outputs are not.
 *
 * @module
 */
import type { OnnxGraph } from '../onnx/index.ts'
import { moduleOf } from './graph_files.ts'

/** What a session tells of the graph that it was made from. */
interface GraphSignature {
  inputNames: readonly string[]
  outputNames?: readonly string[]
}

/** Files that transformers.js makes the session `model` from where it is not `model.onnx`. */
const OTHER_MODULES = ['text_model', 'vision_model', 'audio_model', 'encoder_model', 'decoder_model_merged']

/**
 * Names of the files that a session may have been made from, without suffix of the dtype: the likeliest first.
 * @param all - names of the sessions of the same model
 */
export function modulesOf(
  session: string,
  all: readonly string[],
  { outputNames = [] }: GraphSignature,
): string[] {
  const module = moduleOf(session, all)
  if (module !== 'model') return [module]
  // One tower of a model with two: the graph of both has the outputs of both, and is many times as large.
  const towers = [...outputNames].flatMap((name) => /^(text|image|audio)_embeds$/.exec(name)?.[1] ?? [])
  const tower = { text: 'text_model', image: 'vision_model', audio: 'audio_model' }
  const likely = towers.length === 1 ? [tower[towers[0] as keyof typeof tower]] : []
  return [...new Set([...likely, module, ...OTHER_MODULES])]
}

/** @param prepared - the graph's weights are inputs */
export function isGraphOf(session: GraphSignature, { main }: OnnxGraph, prepared = false): boolean {
  // Before IR version 4 every initializer was listed as an input as well.
  const initializers = new Set(main.initializer.map(({ name }) => name))
  const inputs = new Set(main.input.map(({ name }) => name).filter((name) => !initializers.has(name)))
  const outputs = new Set(main.output.map(({ name }) => name))
  const { inputNames, outputNames = [...outputs] } = session
  return (
    inputNames.every((name) => inputs.has(name)) &&
    (prepared || inputNames.length === inputs.size) &&
    outputNames.every((name) => outputs.has(name)) &&
    outputNames.length === outputs.size
  )
}
