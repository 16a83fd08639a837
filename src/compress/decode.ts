/**
 * An expert back as numbers: for checking, and for tools that know only dense tensors.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { PIECE_WEIGHTS } from '../format/codecs/codec.ts'
import {
  codecOf,
  decodeEntries,
  decodeInPieces,
  decodeStepsOf,
  decodeValues,
  sortedCodes,
} from '../format/codecs/index.ts'
import { checkFiniteValues } from '../format/finite.ts'
import type { TritHead } from '../format/head.ts'
import { FREE_WEIGHTS, MAX_EXPANSION } from '../format/limits.ts'
import { readSection } from '../format/section.ts'
import { forEachStep } from '../format/steps.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'

/**
 * A tensor's delta from theta_init in f32, flat row-major in checkpoint layout.
 * @throws {TritswapError} `integrity` or `format` for bytes that are not what the head promises, `limit` for a tensor
 * that is out of all proportion to its file: read it with {@link decodePieces}
 */
export async function decodeTensor(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const weights = weightsOf(tensor.shape)
  checkExpansion(head, weights, `${tensor.name} of ${source.name}`, 'read it in pieces')
  const values = new Float32Array(weights)
  let at = 0
  for await (const piece of decodePieces(source, head, tensor, options)) {
    values.set(piece, at)
    at += piece.length
  }
  return values
}

/** The same in pieces of at most {@link PIECE_WEIGHTS}, in order, so that a large sparse tensor is never expanded whole. */
export async function* decodePieces(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): AsyncGenerator<Float32Array<ArrayBuffer>> {
  const codec = codecOf(tensor)
  const check = (values: Float32Array, first: number) => {
    if (head.table.kind === 'expert') checkFiniteValues(tensor, values, source.name, first)
  }
  if (codec.slice !== undefined) {
    const weights = weightsOf(tensor.shape)
    for (let from = 0; from < weights; from += PIECE_WEIGHTS) {
      const slice = codec.slice(tensor, from, Math.min(PIECE_WEIGHTS, weights - from))
      const values = decodeValues(slice, await readSection(source, head, slice, options))
      check(values, from)
      yield values
    }
    return
  }
  const section = await readSection(source, head, tensor, options)
  const entries = decodeEntries(tensor, section)
  if (entries !== undefined) {
    yield* piecesOf(sortedCodes(entries), entries.scale, weightsOf(tensor.shape))
    return
  }
  const pieces = decodeInPieces(tensor, section) ?? [decodeValues(tensor, section)]
  let at = 0
  for (const piece of pieces) {
    check(piece, at)
    yield piece
    at += piece.length
  }
}

/** @param codes - as {@link sortedCodes} gives them */
function* piecesOf(codes: Uint32Array, scale: number, weights: number): Generator<Float32Array<ArrayBuffer>> {
  for (let from = 0, i = 0; from < weights; from += PIECE_WEIGHTS) {
    const values = new Float32Array(Math.min(PIECE_WEIGHTS, weights - from))
    for (; i < codes.length && codes[i] >>> 1 < from + values.length; i++)
      values[(codes[i] >>> 1) - from] = codes[i] & 1 ? -scale : scale
    yield values
  }
}

/**
 * Refuses to expand what is out of all proportion to the bytes that it comes from.
 * @param what - for the message, as `remedy`
 * @throws {TritswapError} `limit`
 */
export function checkExpansion(
  { headBytes, payloadBytes }: Pick<TritHead, 'headBytes' | 'payloadBytes'>,
  weights: number,
  what: string,
  remedy: string,
): void {
  const bytes = headBytes + payloadBytes
  const limit = FREE_WEIGHTS + MAX_EXPANSION * bytes
  if (weights <= limit) return
  throw new TritswapError(
    'limit',
    `Cannot expand ${what}: ${weights} weights out of a file of ${bytes} bytes are over the limit of ${limit}; ${remedy}`,
    { fields: { weights, bytes, limit } },
  )
}

/** Kept entries in ascending order of flat row-major index. */
export interface SparseTensor {
  indices: Int32Array<ArrayBuffer>
  /** 1 or −1. */
  signs: Int8Array<ArrayBuffer>
}

/** A tensor of steps: the flat row-major indices of the weights that move, ascending, and how many values up each goes. */
export async function decodeSteps(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): Promise<{ indices: Int32Array<ArrayBuffer>; steps: Int32Array<ArrayBuffer> }> {
  const own = decodeStepsOf(tensor, await readSection(source, head, tensor, options))
  const all: { index: number; step: number }[] = []
  if (own !== undefined) forEachStep(tensor.shape, own, (index, step) => all.push({ index, step }))
  all.sort((a, b) => a.index - b.index)
  return {
    indices: Int32Array.from(all, ({ index }) => index),
    steps: Int32Array.from(all, ({ step }) => step),
  }
}

/** A tensor whose values are 0 and ±scale as indices and signs, in pieces that follow one another; none of others. */
export async function* decodeSparse(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): AsyncGenerator<SparseTensor> {
  const entries = decodeEntries(tensor, await readSection(source, head, tensor, options))
  if (entries === undefined) return
  const all = sortedCodes(entries)
  for (let at = 0; at < all.length; at += PIECE_WEIGHTS) {
    const codes = all.subarray(at, at + PIECE_WEIGHTS)
    yield {
      indices: Int32Array.from(codes, (code) => code >>> 1),
      signs: Int8Array.from(codes, (code) => (code & 1 ? -1 : 1)),
    }
  }
}
