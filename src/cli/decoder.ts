import type { Example } from '../engine/answered_example.ts'
import { TritswapError } from '../errors.ts'
import { halvesToFloats } from '../format/float16.ts'
import type { WindowLogits } from '../model/score.ts'
import { FIRST_LOGIT, OnnxGraph, scoringGraph } from '../onnx/index.ts'
import type { CpuBypass } from '../reference/index.ts'
import { type CacheConfig, graphInputs, type InputMetadata, type InputValues } from './graph_inputs.ts'
import { type Feeds, NodeSession } from './node_session.ts'
import type { WeightsFile } from './weights_file.ts'

/** What a scoring graph calls the file of its weights. */
const LOCATION = 'weights'
/** Inputs that say how many positions get logits. */
const KEEP = /^(num_)?logits_to_keep$/

/** A decoder graph on the CPU that scores sequences one by one, and reads what all of them begin with once. */
export class Decoder {
  readonly #session: NodeSession
  readonly #bypass: Feeds
  readonly #isCut: boolean
  readonly #config: CacheConfig
  /** Outputs that a later run takes as its cache, by the names of its inputs; undefined where it takes none. */
  readonly #caches: ReadonlyMap<string, string> | undefined
  #prefix: { length: number; cache: Feeds } = { length: 0, cache: {} }

  private constructor(session: NodeSession, bypass: Feeds, isCut: boolean, config: CacheConfig) {
    this.#session = session
    this.#bypass = bypass
    this.#isCut = isCut
    this.#config = config
    this.#caches = cachesOf(session.inputsBeside({}), session.outputNames)
  }

  /** @param bypass - a variant of the graph, and what feeds its inputs beyond the weights */
  static async create(
    graph: OnnxGraph,
    weights: WeightsFile,
    { bypass, config = {}, threads }: { bypass?: CpuBypass; config?: CacheConfig; threads?: number },
  ): Promise<Decoder> {
    const source = bypass === undefined ? graph : new OnnxGraph(graph.file, bypass.bytes.slice())
    const { bytes, isCut } = scoringGraph(source, weights.inputs, LOCATION)
    const files = [{ path: LOCATION, data: weights.bytes }]
    const session = await NodeSession.create(bytes, files, { threads, prepack: false })
    return new Decoder(session, bypass ? session.weights(bypass.feeds) : {}, isCut, config)
  }

  /**
   * Reads tokens that every example from now on begins with. A graph without a cache reads them each time.
   * @param ids - fewer than come before the first prediction of any example
   */
  async readPrefix(ids: readonly number[]): Promise<void> {
    if (this.#caches === undefined || ids.length === 0) return
    const outputs = await this.#session.run(this.#feeds(ids, 1), [...this.#caches.values()])
    const cache = Object.fromEntries(Array.from(this.#caches, ([input, output]) => [input, outputs[output]]))
    this.#prefix = { length: ids.length, cache }
  }

  /** Logits of the predicted tokens, `[ids.length − first, vocabulary]`. @throws {TritswapError} as {@link create} */
  async logits({ ids, first }: Example): Promise<WindowLogits> {
    const rows = ids.length - first
    const { logits } = await this.#session.run(this.#feeds(ids.slice(this.#prefix.length, -1), rows), [
      'logits',
    ])
    const vocabulary = logits.dims.at(-1)!
    const data = logits.data instanceof Uint16Array ? halvesToFloats(logits.data) : logits.data
    return { data: (data as Float32Array).subarray(data.length - rows * vocabulary), vocabulary }
  }

  /** @param rows - how many of the last positions need logits */
  #feeds(ids: readonly number[], rows: number): Feeds {
    const { length: from, cache } = this.#prefix
    const fixed = { ...this.#bypass, ...cache }
    const metadata = this.#session.inputsBeside(fixed)
    const row = (values: ArrayLike<number>): InputValues => {
      return { dims: [1, values.length], data: Int32Array.from(values) }
    }
    const positions = Array.from(ids, (_, i) => from + i)
    const given = new Map<string, InputValues>([
      ['input_ids', row(ids)],
      ['attention_mask', row(new Int32Array(from + ids.length).fill(1))],
      ['position_ids', row(positions)],
      ['cache_position', { dims: [ids.length], data: Int32Array.from(positions) }],
    ])
    for (const { name, shape } of metadata)
      if (KEEP.test(name)) given.set(name, { dims: shape.map(() => 1), data: Int32Array.of(rows) })
    if (this.#isCut) given.set(FIRST_LOGIT, { dims: [1], data: Int32Array.of(-rows) })
    const { values, missing } = graphInputs(metadata, given, this.#config)
    if (missing.length > 0) {
      const [name] = missing
      throw new TritswapError('unsupported', `Cannot score a text with this graph: it has an input ${name}`, {
        fields: { name },
      })
    }
    return { ...this.#session.inputs(values), ...fixed }
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}

/** Undefined for a graph without a cache, or whose cache it does not hand on by the usual names. */
function cachesOf(
  inputs: readonly InputMetadata[],
  outputs: readonly string[],
): ReadonlyMap<string, string> | undefined {
  const names = inputs.map(({ name }) => name)
  const past = names.filter((name) => name.startsWith('past'))
  const caches = new Map(past.map((name) => [name, name.replace(/^past(_key_values)?/, 'present')]))
  // A graph with a branch for the first run reads another cache in it.
  if (names.includes('use_cache_branch') || caches.size === 0) return undefined
  return [...caches.values()].every((output) => outputs.includes(output)) ? caches : undefined
}
