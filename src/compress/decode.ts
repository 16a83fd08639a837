/**
 * An expert back as numbers: for checking, and for tools that know only dense tensors.
 *
 * @module
 */
import { type Band, PIECE_WEIGHTS } from '../format/codecs/codec.ts'
import { codecOf, decodeBands, decodeValues } from '../format/codecs/index.ts'
import { checkFiniteValues } from '../format/finite.ts'
import type { TritHead } from '../format/head.ts'
import { readSection } from '../format/section.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'

/**
 * A tensor's delta from theta_init in f32, flat row-major in checkpoint layout.
 * @throws {TritswapError} `integrity` or `format` for bytes that are not what the head promises
 */
export async function decodeTensor(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array(weightsOf(tensor.shape))
  let at = 0
  for await (const piece of decodePieces(source, head, tensor, options)) {
    values.set(piece, at)
    at += piece.length
  }
  return values
}

/** The same in pieces, in order, so that a large sparse tensor is never expanded whole. */
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
  const entries = decodeBands(tensor, section)
  if (entries !== undefined) {
    for (const band of entries.bands) yield valuesOf(band, entries.scale)
    return
  }
  const values = decodeValues(tensor, section)
  check(values, 0)
  yield values
}

function valuesOf({ from, to, indices, negative }: Band, scale: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(to - from)
  for (let i = 0; i < indices.length; i++) values[indices[i] - from] = negative[i] === 1 ? -scale : scale
  return values
}

/** Kept entries in ascending order of flat row-major index. */
export interface SparseTensor {
  indices: Int32Array<ArrayBuffer>
  /** 1 or −1. */
  signs: Int8Array<ArrayBuffer>
}

/** A tensor whose values are 0 and ±scale as indices and signs, in pieces that follow one another; none of others. */
export async function* decodeSparse(
  source: ByteSource,
  head: TritHead,
  tensor: TritTensor,
  options?: ReadOptions,
): AsyncGenerator<SparseTensor> {
  const found = decodeBands(tensor, await readSection(source, head, tensor, options))
  for (const { from, to, ...entries } of found?.bands ?? []) {
    const all = new Int8Array(to - from)
    for (let i = 0; i < entries.indices.length; i++)
      all[entries.indices[i] - from] = entries.negative[i] === 1 ? -1 : 1
    const indices = new Int32Array(entries.indices.length)
    const signs = new Int8Array(entries.indices.length)
    for (let at = 0, i = 0; i < indices.length; at++) {
      if (all[at] === 0) continue
      indices[i] = from + at
      signs[i++] = all[at]
    }
    yield { indices, signs }
  }
}
