/**
 * Scores texts with a prepared base and variants of its weights, on the CPU.
 *
 * @module
 */
import { readFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { openCheckpoint } from '../compress/checkpoint.ts'
import { isFloat } from '../compress/dtypes.ts'
import { readFloats } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { closeness, scoreWindow, type WindowLogits, windowsOf } from '../model/score.ts'
import { matchName } from '../onnx/index.ts'
import {
  bypassOnCpu,
  type CpuBypass,
  ReferenceWeights,
  readExpert,
  type TensorValues,
} from '../reference/index.ts'
import { openFile, openPath } from './file_source.ts'
import { type Feeds, NodeSession } from './node_session.ts'
import type { PreparedManifest } from './prepare.ts'

/** A text in windows of tokens. */
export interface EvaluationText {
  windows: number[][]
  /** UTF-8 bytes that the predicted tokens (all but the first) of each window stand for. */
  bytes: number[]
}

/** Windows `[from, from + count)`, as far as the text has them. */
export interface WindowRange {
  from: number
  count: number
}

export interface VariantScore {
  /** Bits per UTF-8 byte. */
  bpb: number
  /** Share of positions where it ranks the same token first as the reference. */
  agreement?: number
  /** KL(reference ‖ variant), bits per token. */
  kl?: number
}

export interface EvaluationResult {
  windows: number
  base: VariantScore
  /** Present if a fine-tuning was given: what variants are compared with. */
  finetuned?: VariantScore
  variants: VariantScore[]
}

/** Logits of the fine-tuned model are kept for the next variants as long as they take no more than this. */
const MAX_KEPT_BYTES = 512 << 20

/** What a session is fed with, and which one: experts beside the weights have a graph of their own. */
interface Scored {
  session: NodeSession
  feeds: Feeds
}

/** A variant of the base's weights, or experts beside those that stay quantized. */
export type Variant = TensorValues | BypassVariant

interface BypassVariant {
  changed: TensorValues
  placed: CpuBypass
}

export class Evaluation {
  readonly reference: ReferenceWeights
  readonly manifest: PreparedManifest
  readonly #session: NodeSession
  readonly #graph: string
  readonly #bytes: Uint8Array
  readonly #tokenizer: Tokenizer
  readonly #kept = new WeakMap<TensorValues, Map<readonly number[], WindowLogits>>()

  private constructor(
    reference: ReferenceWeights,
    manifest: PreparedManifest,
    bytes: Uint8Array,
    session: NodeSession,
    tokenizer: Tokenizer,
  ) {
    this.reference = reference
    this.manifest = manifest
    this.#bytes = bytes
    this.#session = session
    this.#graph = manifest.graphs[0]
    this.#tokenizer = tokenizer
  }

  /**
   * @param folder - written by `tritswap prepare`
   * @throws {TritswapError} `unsupported` unless it is one decoder graph
   */
  static async open(folder: string): Promise<Evaluation> {
    const manifest = JSON.parse(await readFile(join(folder, 'tritswap.json'), 'utf8')) as PreparedManifest
    if (manifest.graphs.length !== 1) {
      throw new TritswapError(
        'unsupported',
        `Cannot score texts with ${folder}: expected one decoder graph, found ${manifest.graphs.length}`,
      )
    }
    const source = await openFile(join(folder, manifest.weights.file))
    try {
      const reference = await ReferenceWeights.open(source)
      const bytes = await readFile(join(folder, manifest.graphs[0]))
      const session = await NodeSession.create(bytes)
      return new Evaluation(reference, manifest, bytes, session, await loadTokenizer(folder))
    } finally {
      await source.close()
    }
  }

  /** Whether weights of the base stay quantized: experts are then beside them, and nothing else can be compared. */
  get keepsQuantized(): boolean {
    return this.reference.bindings.graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
  }

  text(text: string): EvaluationText {
    const windows = windowsOf(this.#tokenizer.encode(text))
    const bytes = windows.map(
      (tokens) => new TextEncoder().encode(this.#tokenizer.decode(tokens.slice(1))).length,
    )
    return { windows, bytes }
  }

  /**
   * Base, fine-tuned and any number of variants on some windows of a text.
   * @param finetuned - tensors of the uncompressed fine-tuning; without it variants are compared with nothing
   * @param onWindow - called after each window with the number done
   */
  async score(
    text: EvaluationText,
    { from, count }: WindowRange,
    {
      finetuned,
      variants = [],
      onWindow,
    }: { finetuned?: TensorValues; variants?: readonly Variant[]; onWindow?: (done: number) => void },
  ): Promise<EvaluationResult> {
    const windows = text.windows.slice(from, from + count)
    if (windows.length === 0) {
      throw new TritswapError(
        'input',
        `Cannot score windows from ${from}: the text has ${text.windows.length}`,
        {
          fields: { from, windows: text.windows.length },
        },
      )
    }
    const baseFeeds = this.#feeds()
    const tunedFeeds = finetuned && this.#feeds(finetuned)
    const scored: Scored[] = []
    for (const variant of variants) scored.push(await this.#scored(variant))
    const base = new Sum()
    const tuned = new Sum()
    const sums = variants.map(() => new Sum())
    const kept = this.#keptFor(finetuned)
    for (const [i, tokens] of windows.entries()) {
      const bytes = text.bytes[from + i]
      base.add(await this.#session.logits(tokens, baseFeeds), tokens, bytes)
      let reference: WindowLogits | undefined
      if (tunedFeeds !== undefined) {
        reference = kept?.get(tokens) ?? (await this.#session.logits(tokens, tunedFeeds))
        if (kept !== undefined && (kept.size + 1) * reference.data.byteLength <= MAX_KEPT_BYTES)
          kept.set(tokens, reference)
        tuned.add(reference, tokens, bytes)
      }
      for (const [v, { session, feeds }] of scored.entries()) {
        sums[v].add(await session.logits(tokens, feeds), tokens, bytes, reference)
      }
      onWindow?.(i + 1)
    }
    for (const { session } of scored) if (session !== this.#session) await session.release()
    return {
      windows: windows.length,
      base: base.score(),
      finetuned: finetuned && tuned.score(),
      variants: sums.map((sum) => sum.score()),
    }
  }

  #feeds(changed?: TensorValues, kept?: 'leave'): Feeds {
    return this.#session.weights(this.reference.feeds(this.#graph, changed, kept))
  }

  async #scored(variant: Variant): Promise<Scored> {
    if (!('placed' in variant)) return { session: this.#session, feeds: this.#feeds(variant) }
    const { changed, placed } = variant
    const session = await NodeSession.create(placed.bytes)
    return { session, feeds: { ...this.#feeds(changed, 'leave'), ...session.weights(placed.feeds) } }
  }

  #keptFor(finetuned?: TensorValues): Map<readonly number[], WindowLogits> | undefined {
    if (finetuned === undefined) return undefined
    const kept = this.#kept.get(finetuned) ?? new Map<readonly number[], WindowLogits>()
    this.#kept.set(finetuned, kept)
    return kept
  }

  /** Tensors of this base that a `.trit` file changes, and what of it is beside weights that stay quantized. */
  async expert(path: string, weight = 1): Promise<Variant> {
    const source = await openFile(path)
    try {
      if (!this.keepsQuantized) return await this.reference.patched(source, weight)
      const { tensors } = this.reference.head.table
      const { inputs } = this.reference.bindings.graphs[0]
      const graph = {
        file: this.#graph,
        bytes: this.#bytes,
        inputs,
        tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
      }
      const experts = [{ expert: await readExpert(source), weight }]
      const { variants, merged } = await bypassOnCpu([graph], experts, 'auto', this.reference)
      const changed = await this.reference.patched(source, weight, merged[0])
      const placed = variants.get(this.#graph)
      return placed === undefined ? changed : { changed, placed }
    } finally {
      await source.close()
    }
  }

  /**
   * Tensors of an uncompressed fine-tuning that differ from this base.
   * @param path - safetensors file or folder, or a `.trit` file with dense tensors
   */
  async finetuned(path: string): Promise<TensorValues> {
    if (path.endsWith('.trit')) return (await this.expert(path)) as TensorValues
    const { tensors } = await openCheckpoint(await openPath(path))
    const moved = new Map<string, Float32Array<ArrayBuffer>>()
    for (const [name, tensor] of tensors) {
      const target = isFloat(tensor.dtype) ? matchName(name, this.reference.tensors.keys()) : undefined
      if (target === undefined) continue
      const base = this.reference.tensors.get(target)!
      const values = await readFloats(tensor)
      if (values.length !== base.length) {
        throw new TritswapError(
          'base',
          `Cannot compare with ${path}: its ${name} is of another size than the base's`,
          {
            fields: { path, tensor: name },
          },
        )
      }
      if (values.some((value, i) => value !== base[i])) moved.set(target, values)
    }
    return moved
  }

  async close(): Promise<void> {
    await this.#session.release()
  }
}

/** Bytes that the task vector would take in f16. */
export function deltaBytes(moved: TensorValues): number {
  let weights = 0
  for (const values of moved.values()) weights += values.length
  return weights * 2
}

/** Share of what fine-tuning gained over the base that a variant keeps; undefined where it gained nothing. */
export function gainKept(base: number, finetuned: number, variant: number): number | undefined {
  return base > finetuned ? (base - variant) / (base - finetuned) : undefined
}

class Sum {
  #bits = 0
  #bytes = 0
  #positions = 0
  #agreeing = 0
  #klBits = 0

  add(
    { data, vocabulary }: WindowLogits,
    tokens: readonly number[],
    bytes: number,
    reference?: WindowLogits,
  ): void {
    this.#bits += scoreWindow(data, vocabulary, tokens).bits
    this.#bytes += bytes
    if (reference === undefined) return
    const { positions, agreeing, klBits } = closeness(reference, { data, vocabulary }, tokens.length)
    this.#positions += positions
    this.#agreeing += agreeing
    this.#klBits += klBits
  }

  score(): VariantScore {
    const bpb = this.#bits / this.#bytes
    if (this.#positions === 0) return { bpb }
    return { bpb, agreement: this.#agreeing / this.#positions, kl: this.#klBits / this.#positions }
  }
}

interface Tokenizer {
  encode(text: string): number[]
  decode(tokens: number[]): string
}

async function loadTokenizer(folder: string): Promise<Tokenizer> {
  let transformers: typeof import('@xenova/transformers')
  try {
    transformers = await import('@xenova/transformers')
  } catch (cause) {
    throw new TritswapError(
      'input',
      'Cannot tokenize a text: transformers.js is missing; npm install @huggingface/transformers',
      {
        cause,
      },
    )
  }
  const { AutoTokenizer, env } = transformers
  const path = resolve(folder)
  env.allowRemoteModels = false
  env.allowLocalModels = true
  env.localModelPath = dirname(path)
  return AutoTokenizer.from_pretrained(path.slice(dirname(path).length + 1))
}
