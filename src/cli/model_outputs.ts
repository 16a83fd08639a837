/**
 * Outputs of a model on the CPU: of one graph, or of several that take each other's outputs, as a decoder takes its
 * encoder's.
 *
 * @module
 */
import { join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { halvesToFloats } from '../format/float16.ts'
import { externalFilesOf, type OnnxGraph } from '../onnx/index.ts'
import type { CpuFeed, Values } from '../reference/index.ts'
import { readWhole } from './file_source.ts'
import { type CacheConfig, graphInputs, type InputValues } from './graph_inputs.ts'
import { NodeSession } from './node_session.ts'

/** A graph that can be run. */
export interface RunnableGraph {
  /** Path in the model folder. */
  file: string
  bytes: Uint8Array
  /** Files with data of its own. */
  externalData?: readonly { path: string; data: Uint8Array }[]
  /** What feeds its weights. */
  feeds?: ReadonlyMap<string, CpuFeed>
}

/** Outputs by name; caches are left out. */
export type Outputs = Record<string, Values>

/** One output of a model. */
export interface ModelOutput {
  /** The graph that it is of. */
  file: string
  name: string
  values: Values
  /** What the graph goes on from, by the names of the inputs that take it. */
  caches: ReadonlyMap<string, InputValues>
}

/** The data that a graph keeps in files beside it, in a folder. */
export function externalDataOf(
  graph: OnnxGraph,
  folder: string,
): Promise<{ path: string; data: Uint8Array }[]> {
  return Promise.all(
    externalFilesOf(graph).map(async (path) => ({ path, data: await readWhole(join(folder, path)) })),
  )
}

/** The graphs of one model, run on given inputs. */
export class ModelRun {
  readonly #graphs: readonly RunnableGraph[]
  readonly #given: ReadonlyMap<string, InputValues>
  readonly #config: CacheConfig
  #sessions = new Map<string, NodeSession>()

  constructor(
    graphs: readonly RunnableGraph[],
    given: ReadonlyMap<string, InputValues>,
    config: CacheConfig = {},
  ) {
    this.#graphs = graphs
    this.#given = given
    this.#config = config
  }

  /** The same sessions on other inputs; releasing one of both releases both. */
  on(given: ReadonlyMap<string, InputValues>): ModelRun {
    const run = new ModelRun(this.#graphs, given, this.#config)
    run.#sessions = this.#sessions
    return run
  }

  /** The same sessions with other weights; releasing one of both releases both. @param feeds - of each graph, by file */
  fed(feeds: ReadonlyMap<string, RunnableGraph['feeds']>): ModelRun {
    const graphs = this.#graphs.map((graph) => ({ ...graph, feeds: feeds.get(graph.file) }))
    const run = new ModelRun(graphs, this.#given, this.#config)
    run.#sessions = this.#sessions
    return run
  }

  /** Whether the first dimension of every input beside the weights is open, so that examples of one shape can run together. */
  async takesBatches(): Promise<boolean> {
    for (const graph of this.#graphs) {
      const session = await this.#session(graph)
      const inputs = session.inputsBeside(session.weights(graph.feeds ?? new Map()))
      if (inputs.some(({ shape }) => typeof shape[0] === 'number')) return false
    }
    return true
  }

  /**
   * One output of the model; by default the logits, or the first output of the one graph that there is.
   * @throws {TritswapError} `input` where no graph has it, or those that do miss inputs
   */
  async output(wanted?: string): Promise<ModelOutput> {
    const missed: string[] = []
    for (const graph of this.#graphs) {
      const { outputNames } = await this.#session(graph)
      const first = this.#graphs.length === 1 ? outputNames[0] : undefined
      const name = wanted ?? (outputNames.includes('logits') ? 'logits' : first)
      if (name === undefined || !outputNames.includes(name)) continue
      const { outputs, caches, missing } = await this.#run(graph)
      if (outputs !== undefined) return { file: graph.file, name, values: outputs[name], caches }
      missed.push(`${graph.file} needs ${missing.join(', ')}`)
    }
    if (missed.length > 0) {
      throw new TritswapError(
        'input',
        `Cannot run the model: the inputs lack what cannot be made; ${missed.join('; ')}; add them to the file of inputs`,
        { fields: { missing: missed } },
      )
    }
    const names = this.#graphs.map(({ file }) => `${file} has ${this.#sessions.get(file)?.outputNames[0]}`)
    throw new TritswapError(
      'input',
      wanted === undefined
        ? `Cannot tell which output is meant: no graph has logits; ${names.join(', ')}; name one with --output`
        : `Cannot find the output ${wanted}: ${names.join(', ')}`,
      { fields: { output: wanted } },
    )
  }

  /** All outputs of one graph. @throws {TritswapError} `input` where inputs are missing, or do not fit the graph */
  async outputs(file: string): Promise<Outputs> {
    const { outputs, missing } = await this.#run(this.#graphs.find((graph) => graph.file === file)!)
    if (outputs !== undefined) return outputs
    throw new TritswapError('input', `Cannot run ${file}: its inputs ${missing.join(', ')} are missing`, {
      fields: { file, missing },
    })
  }

  /** Outputs, with what is missing taken from the outputs of other graphs, or the inputs that no graph puts out. */
  async #run(
    graph: RunnableGraph,
    waiting: readonly RunnableGraph[] = [],
  ): Promise<{ outputs?: Outputs; caches: Map<string, InputValues>; missing: readonly string[] }> {
    const caches = new Map<string, InputValues>()
    const session = await this.#session(graph)
    const weights = session.weights(graph.feeds ?? new Map())
    const metadata = session.inputsBeside(weights)
    const given = new Map(this.#given)
    let { values, missing } = graphInputs(metadata, given, this.#config)
    for (const name of missing) {
      const found = await this.#fromOthers(name, [...waiting, graph])
      if (found !== undefined) given.set(name, found)
    }
    if (missing.length > 0) ({ values, missing } = graphInputs(metadata, given, this.#config))
    if (missing.length > 0) return { caches, missing }
    try {
      const results = await session.run({ ...session.inputs(values), ...weights })
      const outputs = Object.entries(results).filter(([name]) => !name.startsWith('present'))
      for (const [name, { data, dims }] of Object.entries(results))
        if (name.startsWith('present')) caches.set(pastOf(name), { data: floatsOf(data), dims })
      return {
        outputs: Object.fromEntries(
          outputs.map(([name, { data, dims }]) => [name, { data: floatsOf(data), dims }]),
        ),
        caches,
        missing,
      }
    } catch (cause) {
      throw cannotRun(graph.file, cause)
    }
  }

  async #fromOthers(name: string, waiting: readonly RunnableGraph[]): Promise<InputValues | undefined> {
    const output = name === 'encoder_hidden_states' ? 'last_hidden_state' : name
    for (const graph of this.#graphs) {
      if (waiting.includes(graph)) continue
      const { outputNames } = await this.#session(graph)
      if (!outputNames.includes(output)) continue
      const { outputs } = await this.#run(graph, waiting)
      if (outputs !== undefined) return outputs[output]
    }
    return undefined
  }

  async #session({ file, bytes, externalData }: RunnableGraph): Promise<NodeSession> {
    const open = this.#sessions.get(file)
    if (open !== undefined) return open
    try {
      const session = await NodeSession.create(bytes, externalData)
      this.#sessions.set(file, session)
      return session
    } catch (cause) {
      if (cause instanceof TritswapError) throw cause
      throw cannotRun(file, cause)
    }
  }

  async release(): Promise<void> {
    for (const session of this.#sessions.values()) await session.release()
    this.#sessions.clear()
  }
}

/** The input that takes what an output puts out. */
function pastOf(output: string): string {
  return output.replace(/^present/, 'past_key_values')
}

function cannotRun(file: string, cause: unknown): TritswapError {
  return new TritswapError(
    'input',
    `Cannot run ${file}: ${cause instanceof Error ? cause.message : cause}; check the inputs and the graph`,
    { fields: { file }, cause },
  )
}

/** Values of any type as f32; halves as onnxruntime has them in a Node without Float16Array. */
function floatsOf(data: unknown): Float32Array<ArrayBuffer> {
  if (data instanceof Uint16Array) return halvesToFloats(data)
  if (data instanceof BigInt64Array) return Float32Array.from(data, Number)
  return Float32Array.from(data as ArrayLike<number>)
}
