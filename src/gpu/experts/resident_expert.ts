import { TritswapError } from '../../errors.ts'
import { wordsFor } from '../../format/bits.ts'
import { MAX_STREAM_BITS, type TritHead, type TritTable, tilingOf, weightsOf } from '../../format/index.ts'
import type { StreamSpan } from '../job.ts'
import { stepsLayout } from '../steps_form.ts'
import { isDecoded, streamForm } from '../stream_form.ts'
import { termsLayout } from '../terms_form.ts'
import type { Span } from './arena.ts'

export type ExpertHead = Pick<TritHead, 'table' | 'payloadBytes' | 'rootHash'>

/**
 * How an expert lies in the arena: its payload as it is in the file, then the block indexes, and what the CPU makes
 * of sections that no kernel reads.
 */
export interface ExpertLayout {
  /** Of the whole expert. */
  words: number
  /** For each tensor, relative to the expert's first word. */
  streams: readonly StreamSpan[]
}

/**
 * @param indexWords - of a block
 * @throws {TritswapError} `limit` for a stream that is too long
 */
export function layoutOf({ table, payloadBytes }: ExpertHead, indexWords: number): ExpertLayout {
  const streams: StreamSpan[] = []
  let words = payloadBytes / 4
  for (const tensor of table.tensors) {
    const first = tensor.offset / 4
    const form = streamForm(tensor)
    if (form.kind === 'terms') {
      streams.push({ words, index: 0 })
      words += termsLayout(tensor).words
      continue
    }
    if (form.kind === 'steps') {
      const { index, words: own } = stepsLayout(tensor.shape, form)
      streams.push({ words, index: words + index })
      words += own
      continue
    }
    if (form.kind === 'dense') {
      streams.push({ words: isDecoded(tensor) ? words : first, index: 0 })
      if (isDecoded(tensor)) words += weightsOf(tensor.shape)
      continue
    }
    if (tensor.bytes * 8 > MAX_STREAM_BITS) {
      throw new TritswapError(
        'limit',
        `Cannot load ${tensor.name}: its ${tensor.bytes} bytes are over the limit of one stream`,
        { fields: { tensor: tensor.name, bytes: tensor.bytes } },
      )
    }
    const { blocks } = tilingOf(tensor.shape)
    streams.push({ words: first + wordsFor(blocks * form.code.lengthBits), index: words })
    words += indexLength(blocks, indexWords)
  }
  return { words, streams }
}

/** Words of the index of a stream: of all its blocks, and the two first ones of where they end. */
export function indexLength(blocks: number, indexWords: number): number {
  return indexWords * blocks + 2
}

/** An expert in VRAM, compressed: its payload as it is in the file, and an index that the GPU has made. */
export class ResidentExpert {
  readonly rootHash: string
  readonly table: TritTable
  /** VRAM of compressed streams and index. */
  readonly bytes: number
  readonly #span: Span
  readonly #streams: readonly StreamSpan[]
  #references = 1
  #evicted = false

  constructor(head: ExpertHead, span: Span, { streams }: ExpertLayout) {
    this.rootHash = head.rootHash
    this.table = head.table
    this.bytes = span.words * 4
    this.#span = span
    this.#streams = streams
  }

  get references(): number {
    return this.#references
  }

  /** True once the store has evicted it, or was destroyed. */
  get evicted(): boolean {
    return this.#evicted
  }

  /** @throws {TritswapError} `released` after its eviction */
  retain(): this {
    if (this.#evicted) throw this.#gone('use')
    this.#references++
    return this
  }

  /**
   * Gives one reference back. Without references it stays in VRAM until its space is needed.
   * @throws {TritswapError} `released` when there is no reference left
   */
  release(): void {
    if (this.#references === 0) throw this.#gone('release')
    this.#references--
  }

  /** Where tensor `index` of the table is now. @internal */
  spanOf(index: number): StreamSpan {
    if (this.#evicted) throw this.#gone('use')
    const { words, index: blockIndex } = this.#streams[index]
    return { words: this.#span.first + words, index: this.#span.first + blockIndex }
  }

  /** Marks it as evicted and returns the span to free. @internal */
  evict(): Span {
    this.#evicted = true
    return this.#span
  }

  #gone(what: string): TritswapError {
    const name = this.table.label ?? this.rootHash.slice(0, 12)
    return new TritswapError(
      'released',
      `Cannot ${what} the expert ${name}: it was released already; load it again`,
      { fields: { rootHash: this.rootHash } },
    )
  }
}
