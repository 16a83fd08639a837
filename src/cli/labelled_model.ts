/**
 * Models that say what a text is: classifiers, and encoder–decoders, whose labels are texts. They run on the CPU, with
 * experts bound by the rules of a page.
 *
 * @module
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { checkActsEverywhere } from '../format/invocation.ts'
import type { GroupWeights } from '../model/compose.ts'
import type { WindowLogits } from '../model/score.ts'
import { graphWithStored, integersOf, OnnxGraph, type StoredInput } from '../onnx/index.ts'
import {
  type AdmittedExpert,
  type BoundExperts,
  type CpuFeed,
  ReferenceBase,
  type ReferenceWeights,
  readExpert,
} from '../reference/index.ts'
import { openFile, readText } from './file_source.ts'
import type { InputValues } from './graph_inputs.ts'
import type { Labelled } from './labels.ts'
import { LogitsFile } from './logits_file.ts'
import { ModelRun } from './model_outputs.ts'
import { openPreparedModel, type PreparedModel } from './prepared_base.ts'
import { withPreparedFolder } from './prepared_folder.ts'
import { type ScoreOptions, scoreExample } from './score_example.ts'
import type { ExampleScore } from './scores.ts'
import { loadTokenizer, type Tokenizer } from './tokenizer.ts'

/** What a graph calls its weights. */
const LOCATION = 'weights'
/** Examples whose logits are in memory at once; those of one shape run together. */
const TOGETHER = 256
/** Where each weight begins: what wasm's vector loads like. */
const ALIGNMENT = 64
/**
 * Bytes of weights that are copied at most, over all examples of a variant, to spare it sessions of its own: those of a small model
 * cost as much as 50 examples.
 */
const COPIED_BYTES = 2 ** 30

/** A labelled text as the model reads it. */
export interface LabelledExample {
  inputs: ReadonlyMap<string, InputValues>
  /** The class, or the tokens of the label up to the one that ends it. */
  wanted: readonly number[]
}

/** What a model does on one of them. */
export interface LabelScore extends ExampleScore {
  /** The class that ranks first; undefined where labels are texts. */
  predicted?: number
  wanted: readonly number[]
}

/** The fields of a configuration that say what labels are. */
interface LabelConfig {
  id2label?: Record<string, string>
  decoder_start_token_id?: number
  is_encoder_decoder?: boolean
}

export class LabelledModel {
  /** Names of the classes in their order; undefined where labels are texts. */
  readonly classes: readonly string[] | undefined
  readonly #prepared: PreparedModel
  readonly #base: ReferenceBase
  readonly #tokenizer: Tokenizer
  readonly #start: number
  readonly #folder: string
  #files = 0
  /** No graph rounds activations by what else is in the batch, as dynamic quantization does. */
  readonly #isRowByRow: boolean
  /** Sessions whose weights are fed; made once. */
  #fed: ModelRun | undefined

  private constructor(
    prepared: PreparedModel,
    base: ReferenceBase,
    tokenizer: Tokenizer,
    config: LabelConfig,
    folder: string,
  ) {
    this.#prepared = prepared
    this.#base = base
    this.#tokenizer = tokenizer
    this.#start = config.decoder_start_token_id ?? 0
    this.#folder = folder
    this.#isRowByRow = prepared.graphs.every(({ graph }) => integersOf(graph).length === 0)
    const { is_encoder_decoder, id2label = {} } = config
    this.classes = is_encoder_decoder === true ? undefined : Object.values(id2label)
  }

  /**
   * @param folder - written by `tritswap prepare`
   * @param options.anyCheckpoint - takes experts of copies of the base, which have another fingerprint: weights alone tell
   */
  static async open(folder: string, { anyCheckpoint = false } = {}): Promise<LabelledModel> {
    const prepared = await openPreparedModel(folder)
    const { manifest, weights, graphs } = prepared
    const { dtype } = manifest
    const fingerprint = anyCheckpoint ? null : manifest.fingerprint
    const parsed = graphs.map(({ graph }) => graph)
    const base = await ReferenceBase.create(weights, parsed, { name: folder, fingerprint, dtype })
    const config = JSON.parse(await readText(join(folder, 'config.json'))) as LabelConfig
    const scratch = await mkdtemp(join(tmpdir(), 'tritswap-'))
    return new LabelledModel(prepared, base, await loadTokenizer(folder), config, scratch)
  }

  /** A name for a file that lasts as long as the model. */
  scratch(name: string): string {
    return join(this.#folder, `${++this.#files}-${name}`)
  }

  /** Room for the logits of a variant. */
  logitsFile(): Promise<LogitsFile> {
    return LogitsFile.create(this.scratch('logits'))
  }

  /** @throws {TritswapError} `input` for a label that is not one of the classes */
  example({ text, pair, label }: Labelled): LabelledExample {
    const inputs = new Map<string, InputValues>()
    for (const [name, ids] of Object.entries(this.#tokenizer.inputs(text, pair)))
      inputs.set(name, { dims: [1, ids.length], data: Int32Array.from(ids) })
    if (this.classes !== undefined) return { inputs, wanted: [this.#classOf(label)] }
    const wanted = this.#tokenizer.encode(label)
    const before = [this.#start, ...wanted.slice(0, -1)]
    inputs.set('decoder_input_ids', { dims: [1, before.length], data: Int32Array.from(before) })
    return { inputs, wanted }
  }

  #classOf(label: string): number {
    const classes = this.classes!
    const named = classes.indexOf(label)
    const index = named < 0 && /^\d+$/.test(label) ? Number(label) : named
    if (index >= 0 && index < classes.length) return index
    throw new TritswapError(
      'input',
      `Cannot score the label ${label}: expected one of ${classes.join(', ')}, or its number`,
      { fields: { label, classes: [...classes] } },
    )
  }

  /** An expert file for this base. @throws {TritswapError} as `ReferenceBase.admit`, and `checkActsEverywhere` */
  async admit(path: string): Promise<AdmittedExpert> {
    const source = await openFile(path)
    try {
      const expert = await readExpert(source)
      checkActsEverywhere(expert.table, path, 'label texts with')
      return await this.#base.admit(expert, path)
    } finally {
      await source.close()
    }
  }

  /** The base's weights. */
  get weights(): ReferenceWeights {
    return this.#base.weights
  }

  /**
   * What experts make of the base.
   * @param weights - one for each expert; 1 by default
   * @param groups - for each expert, what its weight is multiplied with in each group of layers
   * @throws {TritswapError} as `ReferenceBase.bind`
   */
  bind(
    experts: readonly AdmittedExpert[],
    weights: readonly number[] = experts.map(() => 1),
    groups?: GroupWeights,
  ): Promise<BoundExperts> {
    return this.#base.bind(
      experts.map((expert, i) => ({ ...expert, weight: weights[i], groups: groups?.[i] })),
      'auto',
    )
  }

  /** What the base does on each example, or the base as experts change it. */
  async score(
    examples: readonly LabelledExample[],
    bound: BoundExperts | undefined,
    options: ScoreOptions = {},
  ): Promise<LabelScore[]> {
    const { sessions, release } = this.#sessionsFor(bound, examples.length)
    try {
      const isBatched = this.#isRowByRow && (await sessions.takesBatches())
      const scores: LabelScore[] = []
      for (let from = 0; from < examples.length; from += TOGETHER) {
        const some = examples.slice(from, from + TOGETHER)
        const all = new Array<WindowLogits>(some.length)
        for (const batch of isBatched ? sameShapes(some) : Array.from(some.keys(), (i) => [i])) {
          const found = await logitsOf(
            sessions,
            batch.map((i) => some[i]),
          )
          for (const [at, i] of batch.entries()) all[i] = found[at]
        }
        for (const [i, logits] of all.entries()) {
          const { wanted } = some[i]
          // Before the first token there is none.
          const score = await scoreExample(from + i, logits, [-1, ...wanted], options)
          const predicted = this.classes && logits.data.indexOf(Math.max(...logits.data))
          scores.push({ ...score, predicted, wanted })
        }
      }
      return scores
    } finally {
      await release()
    }
  }

  /** Sessions with a variant's weights: those that are kept, where feeding them copies little, else some of its own. */
  #sessionsFor(
    bound: BoundExperts | undefined,
    examples: number,
  ): { sessions: ModelRun; release: () => Promise<void> } {
    const { graphs, config } = this.#prepared
    const fed = graphs.map(({ graph: { file } }) => ({ file, ...this.#base.feeds(file, bound) }))
    const bytes = fed.reduce(
      (sum, { feeds }) => sum + [...feeds.values()].reduce((own, { data }) => own + data.byteLength, 0),
      0,
    )
    if (bytes * examples <= COPIED_BYTES && fed.every(({ variant }) => variant === undefined)) {
      this.#fed ??= new ModelRun(
        graphs.map(({ graph: { file, bytes }, externalData }) => ({ file, bytes, externalData })),
        new Map(),
        config,
      )
      const sessions = this.#fed.fed(new Map(fed.map(({ file, feeds }) => [file, feeds])))
      return { sessions, release: async () => {} }
    }
    const bindings = graphs.map(({ graph: { file, bytes }, externalData }, i) => {
      const { variant, feeds } = fed[i]
      const { stored, data } = together(feeds)
      const parsed = new OnnxGraph(file, (variant ?? bytes).slice())
      return {
        file,
        bytes: graphWithStored(parsed, stored, LOCATION),
        externalData: [...externalData, { path: LOCATION, data }],
      }
    })
    const sessions = new ModelRun(bindings, new Map(), config)
    return { sessions, release: () => sessions.release() }
  }

  async close(): Promise<void> {
    await this.#fed?.release()
    await rm(this.#folder, { recursive: true })
  }
}

/** Positions of examples whose inputs are of one shape. */
function sameShapes(examples: readonly LabelledExample[]): number[][] {
  const byShape = new Map<string, number[]>()
  for (const [i, { inputs }] of examples.entries()) {
    const shape = Array.from(inputs, ([name, { dims }]) => `${name} ${dims}`).join()
    byShape.set(shape, [...(byShape.get(shape) ?? []), i])
  }
  return [...byShape.values()]
}

/** Logits of examples whose inputs are of one shape, in one run. */
async function logitsOf(sessions: ModelRun, examples: readonly LabelledExample[]): Promise<WindowLogits[]> {
  const [{ inputs, wanted }] = examples
  const together = new Map(
    Array.from(
      inputs,
      ([
        name,
        {
          dims: [, ...rest],
        },
      ]): [string, InputValues] => [
        name,
        {
          dims: [examples.length, ...rest],
          data: Int32Array.from(examples.flatMap((one) => [...(one.inputs.get(name)!.data as Int32Array)])),
        },
      ],
    ),
  )
  const { values } = await sessions.on(together).output('logits')
  const vocabulary = values.dims.at(-1)!
  const size = wanted.length * vocabulary
  if (values.data.length !== examples.length * size) throw otherOutputs(values.dims, wanted.length)
  return examples.map((_, i) => ({
    data: Float32Array.from(values.data.subarray(i * size, (i + 1) * size)),
    vocabulary,
  }))
}

/** The weights of a graph in one piece of memory, for sessions that keep them. */
function together(feeds: ReadonlyMap<string, CpuFeed>): { stored: StoredInput[]; data: Uint8Array } {
  const stored: StoredInput[] = []
  let end = 0
  for (const [name, { dtype, dims, data }] of feeds) {
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT
    stored.push({ name, dtype, dims, offset, bytes: data.byteLength })
    end = offset + data.byteLength
  }
  const data = new Uint8Array(end)
  for (const { name, offset } of stored) {
    const { buffer, byteOffset, byteLength } = feeds.get(name)!.data
    data.set(new Uint8Array(buffer, byteOffset, byteLength), offset)
  }
  return { stored, data }
}

/** @param model - folder written by `tritswap prepare`, or one to prepare for as long as it is used */
export function withLabelledModel<T>(model: string, use: (model: LabelledModel) => Promise<T>): Promise<T> {
  return withPreparedFolder(model, {}, async ({ folder }) => {
    const labelled = await LabelledModel.open(folder)
    try {
      return await use(labelled)
    } finally {
      await labelled.close()
    }
  })
}

function otherOutputs(dims: readonly number[], rows: number): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot score labels with this model: expected logits of a classifier or an encoder–decoder, ${rows} × classes, found ${dims.join(' × ')}`,
    { fields: { dims: [...dims] } },
  )
}
