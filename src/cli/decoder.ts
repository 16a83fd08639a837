import type { Example } from '../engine/answered_example.ts'
import { TritswapError } from '../errors.ts'
import { halvesToFloats } from '../format/float16.ts'
import { virtualIds } from '../format/invocation.ts'
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
  /** What every example begins with: positions in the cache, the last of which are tokens of the example. */
  #prefix: { positions: number; tokens: number; cache: Feeds } = { positions: 0, tokens: 0, cache: {} }

  private constructor(session: NodeSession, bypass: Feeds, isCut: boolean, config: CacheConfig) {
    this.#session = session
    this.#bypass = bypass
    this.#isCut = isCut
    this.#config = config
    this.#caches = cachesOf(session.inputsBeside({}), session.outputNames)
  }

  /**
   * @param options.bypass - a variant of the graph, and what feeds its inputs beyond the weights
   * @param options.prepack - as of {@link NodeSession.create}; by default weights are in memory once
   */
  static async create(
    graph: OnnxGraph,
    weights: WeightsFile,
    {
      bypass,
      config = {},
      threads,
      prepack = false,
    }: { bypass?: CpuBypass; config?: CacheConfig; threads?: number; prepack?: boolean },
  ): Promise<Decoder> {
    const source = bypass === undefined ? graph : new OnnxGraph(graph.file, bypass.bytes.slice())
    const { bytes, isCut } = scoringGraph(source, weights.inputs, LOCATION)
    const files = [{ path: LOCATION, data: weights.bytes }]
    const session = await NodeSession.create(bytes, files, { threads, prepack })
    return new Decoder(session, bypass ? session.weights(bypass.feeds) : {}, isCut, config)
  }

  /**
   * Puts virtual tokens before every example from now on.
   * @param by - reads them: a decoder of the graph's variant with their rows
   * @throws {TritswapError} `unsupported` for a graph without a cache
   */
  async readFront(count: number, by: Decoder): Promise<void> {
    const caches = this.#cachesFor('virtual tokens')
    const outputs = await by.#session.run(by.#feeds(virtualIds(count), 1), [...caches.values()])
    this.#prefix = { positions: count, tokens: 0, cache: cacheOf(caches, outputs) }
  }

  /**
   * Reads tokens that every example from now on begins with. A graph without a cache reads them each time.
   * @param ids - fewer than come before the first prediction of any example
   */
  async readPrefix(ids: readonly number[]): Promise<void> {
    if (this.#caches === undefined || ids.length === 0) return
    const outputs = await this.#session.run(this.#feeds(ids, 1), [...this.#caches.values()])
    const positions = this.#prefix.positions + ids.length
    this.#prefix = { positions, tokens: ids.length, cache: cacheOf(this.#caches, outputs) }
  }

  /**
   * Logits of the predicted tokens, `[ids.length − first, vocabulary]`.
   * @param options.from - how many tokens at the beginning another decoder reads, which gives their logits
   * @throws {TritswapError} as {@link create}
   */
  async logits(
    { ids, first }: Example,
    { from = 0, before }: { from?: number; before?: Decoder } = {},
  ): Promise<WindowLogits> {
    if (before !== undefined && from > 0) return this.#logitsBehind(before, { ids, first }, from)
    const rows = ids.length - first
    const feeds = this.#feeds(ids.slice(this.#prefix.tokens, -1), rows)
    const { logits } = await this.#session.run(feeds, ['logits'])
    return lastRows(logits, rows)
  }

  /** Logits where another decoder reads the first tokens. @throws {TritswapError} `unsupported` for a graph without a cache */
  async #logitsBehind(before: Decoder, { ids, first }: Example, from: number): Promise<WindowLogits> {
    const caches = this.#cachesFor('an activated LoRA')
    const rows = ids.length - first
    // Position i predicts token i + 1: those from `from` on are read here.
    const rowsHere = Math.min(rows, ids.length - 1 - from)
    const rowsBefore = rows - rowsHere
    const outputs = await before.#session.run(
      before.#feeds(ids.slice(before.#prefix.tokens, from), Math.max(rowsBefore, 1)),
      ['logits', ...caches.values()],
    )
    const own = this.#prefix
    this.#prefix = { positions: from, tokens: from, cache: cacheOf(caches, outputs) }
    try {
      const { logits } = await this.#session.run(this.#feeds(ids.slice(from, -1), rowsHere), ['logits'])
      const here = lastRows(logits, rowsHere)
      if (rowsBefore === 0) return here
      const { data } = lastRows(outputs.logits, rowsBefore)
      const joined = new Float32Array(data.length + here.data.length)
      joined.set(data)
      joined.set(here.data, data.length)
      return { data: joined, vocabulary: here.vocabulary }
    } finally {
      this.#prefix = own
    }
  }

  /** @throws {TritswapError} `unsupported` for a graph without a cache */
  #cachesFor(what: string): ReadonlyMap<string, string> {
    if (this.#caches !== undefined) return this.#caches
    throw new TritswapError(
      'unsupported',
      `Cannot score ${what} with this graph: it keeps no keys and values, so a text cannot be read in parts; export it with a cache (optimum: --task text-generation-with-past)`,
    )
  }

  /** @param rows - how many of the last positions need logits */
  #feeds(ids: readonly number[], rows: number): Feeds {
    const { positions: from, cache } = this.#prefix
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

function cacheOf(caches: ReadonlyMap<string, string>, outputs: Feeds): Feeds {
  return Object.fromEntries(Array.from(caches, ([input, output]) => [input, outputs[output]]))
}

function lastRows({ data, dims }: Feeds[string], rows: number): WindowLogits {
  const vocabulary = dims.at(-1)!
  const floats = (data instanceof Uint16Array ? halvesToFloats(data) : data) as Float32Array
  return { data: floats.subarray(floats.length - rows * vocabulary), vocabulary }
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
