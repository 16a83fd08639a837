import { createHash } from 'node:crypto'
import { mkdtemp, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { inject } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { graphInputs, type InputValues } from '../../src/cli/graph_inputs.ts'
import { loadOrt } from '../../src/cli/node_session.ts'
import { type PrepareOptions, prepareModel } from '../../src/cli/prepare_model.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readBytes, readFloats } from '../../src/compress/safetensors.ts'
import {
  type CpuFeed,
  ReferenceWeights,
  rangeOf,
  relativeDifference,
  type TensorValues,
} from '../../src/reference/index.ts'
import { SHARED, ZOO } from './zoo.ts'

export { SHARED, ZOO }

export type Outputs = Record<string, { data: Float32Array; dims: readonly number[] }>

type Session = Awaited<ReturnType<Awaited<ReturnType<typeof loadOrt>>['InferenceSession']['create']>>

/** Sessions by the hash of their graph, the latest last: it takes longer to make one than to run it. */
const sessions = new Map<string, Promise<Session>>()
/** Of which so many are kept: the memory of onnxruntime's wasm is one for all. */
const MAX_SESSIONS = 40

async function sessionOf(bytes: Uint8Array, options: object): Promise<Session> {
  const key = createHash('sha256').update(bytes).digest('hex')
  const { InferenceSession } = await loadOrt()
  const session =
    sessions.get(key) ?? InferenceSession.create(bytes, { executionProviders: ['wasm'], ...options })
  sessions.delete(key)
  sessions.set(key, session)
  const [[oldest, unused]] = sessions
  if (sessions.size > MAX_SESSIONS) {
    sessions.delete(oldest)
    await (await unused).release()
  }
  return session
}

const models = new Map<string, ReturnType<typeof prepare>>()

/** A model prepared into a folder that no test changes: all files of a run share it. */
export function prepared(path: string, options: PrepareOptions = {}): ReturnType<typeof prepare> {
  const key = JSON.stringify([path, { subfolder: 'onnx', ...options }])
  const model = models.get(key) ?? prepare(path, options)
  models.set(key, model)
  return model
}

async function prepare(path: string, options: PrepareOptions) {
  const out = await mkdtemp(join(inject('scratch'), 'prepared-'))
  const result = await prepareModel(path, out, options)
  const source = await openFile(join(out, 'weights.trit'))
  const weights = await ReferenceWeights.open(source)
  await source.close()
  return { out, ...result, weights }
}

/** All values of a checkpoint. */
export async function checkpointValues(path: string): Promise<TensorValues> {
  const { tensors } = await openCheckpoint(await openFile(path))
  const values = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [name, tensor] of tensors) values.set(name, await readFloats(tensor))
  return values
}

const expectations = new Map<string, ReturnType<typeof openCheckpoint>>()

/** A tensor of a zoo model's expected.safetensors. */
async function expected(model: string, name: string) {
  const opened =
    expectations.get(model) ??
    openFile(join(ZOO, model, 'expected.safetensors')).then((file) => openCheckpoint(file))
  expectations.set(model, opened)
  const { tensors } = await opened
  const tensor = tensors.get(name)
  if (tensor === undefined) return undefined
  if (tensor.dtype !== 'I64') return { data: await readFloats(tensor), dims: tensor.shape }
  const bytes = await readBytes(tensor)
  return { data: new BigInt64Array(bytes.slice().buffer), dims: tensor.shape }
}

/** Runs one graph on a zoo model's inputs; those it has no values for are made as `tritswap check` makes them. */
export async function runGraph(
  model: string,
  path: string,
  weights?: GraphWeights,
  given: Outputs = {},
): Promise<Outputs> {
  const { Tensor } = await loadOrt()
  const options = weights === undefined ? await externalData(path) : {}
  const session = await sessionOf(weights?.beside?.bytes ?? (await readFile(path)), options)
  const hoisted = weights === undefined ? {} : await weightFeeds(weights)
  const inputs = new Map<string, InputValues>(Object.entries(given))
  for (const name of ['input_ids', 'attention_mask', 'decoder_input_ids', 'pixel_values']) {
    const value = await expected(model, name)
    if (value !== undefined) inputs.set(name, value)
  }
  const own = session.inputMetadata.flatMap((meta) =>
    meta.isTensor && !(meta.name in hoisted) ? [meta] : [],
  )
  const { values } = graphInputs(own, inputs)
  const feeds = Object.fromEntries(
    Array.from(values, ([name, { type, dims, data }]) => [
      name,
      new Tensor(type as 'float32', data as Float32Array, dims),
    ]),
  )
  const outputs = await session.run({ ...feeds, ...hoisted })
  return Object.fromEntries(
    Object.entries(outputs)
      .filter(([name]) => !name.startsWith('present'))
      .map(([name, { data, dims }]) => [name, { data: Float32Array.from(data as Float32Array), dims }]),
  )
}

/** What feeds the hoisted inputs of one graph. */
export interface GraphWeights {
  reference: ReferenceWeights
  file: string
  changed?: TensorValues
  /** A variant of the graph, and what its own inputs are fed with. */
  beside?: { bytes: Uint8Array; feeds: ReadonlyMap<string, CpuFeed> }
}

async function weightFeeds({ reference, file, changed, beside }: GraphWeights) {
  const { Tensor } = await loadOrt()
  const feeds = [...reference.feeds(file, changed, beside && 'leave'), ...(beside?.feeds ?? [])]
  return Object.fromEntries(
    Array.from(feeds, ([name, { dtype, dims, data }]) => [
      name,
      new Tensor(dtype, data as Float32Array, dims),
    ]),
  )
}

async function externalData(path: string) {
  const name = `${path.split('/').at(-1)}_data`
  try {
    return { externalData: [{ path: name, data: await readFile(join(dirname(path), name)) }] }
  } catch {
    return {}
  }
}

/** Largest absolute difference over all outputs. */
export function difference(a: Outputs, b: Outputs): number {
  let max = 0
  for (const [name, { data }] of Object.entries(a)) {
    for (const [i, value] of data.entries()) max = Math.max(max, Math.abs(value - b[name].data[i]))
  }
  return max
}

/** Torch's logits from expected.safetensors. */
export async function torchOutputs(model: string, name: string): Promise<Outputs[string]> {
  const found = await expected(model, name)
  if (found === undefined) throw new Error(`${model} has no expected ${name}`)
  return found as Outputs[string]
}

/** Logits of a prepared f32 model, through its encoder where it has one. */
export async function outputsOf(
  model: string,
  { out, weights, manifest }: Awaited<ReturnType<typeof prepared>>,
  changed?: TensorValues,
  beside: ReadonlyMap<string, GraphWeights['beside']> = new Map(),
): Promise<Outputs> {
  const run = (file: string, given?: Outputs) =>
    runGraph(model, join(out, file), { reference: weights, file, changed, beside: beside.get(file) }, given)
  const fileOf = (module: string) => manifest.graphs.find((file) => file.includes(module)) as string
  if (manifest.graphs.length === 1) return run(manifest.graphs[0])
  const { last_hidden_state: states } = await run(fileOf('encoder_model'))
  return run(fileOf('decoder_model_merged'), { encoder_hidden_states: states })
}

/** Largest difference of logits from torch's, which keep the last position only where a model has positions. */
export function lastDifference({ logits }: Outputs, torch: Outputs[string]): number {
  return relativeDifference(logits, torch) * rangeOf(torch.data)
}
