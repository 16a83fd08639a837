/**
 * An expert back as numbers: for checking, and for tools that know only dense tensors.
 *
 * @module
 */
import { decodeDense } from '../format/codecs/dense.ts'
import { decodeTernary, type TernaryEntries } from '../format/codecs/ternary.ts'
import { checkFinite } from '../format/finite.ts'
import type { TritHead } from '../format/head.ts'
import { decodeValues, readSection, ternarySection } from '../format/section.ts'
import type { DenseTensor, TernaryTensor, TritTensor } from '../format/table.ts'
import { tilingOf, weightsOf } from '../format/tiling.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'

/** Largest number of elements in a piece, except for tensors whose tiles are wider. */
const PIECE_WEIGHTS = 2 ** 20

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
  if (tensor.codec === 'dense') {
    yield* densePieces(source, head, tensor, options)
    return
  }
  if (tensor.codec === 'blocks') {
    yield decodeValues(tensor, await readSection(source, head, tensor, options))
    return
  }
  const { scale } = tensor
  for await (const { from, to, indices, negative } of bands(source, head, tensor, options)) {
    const values = new Float32Array(to - from)
    for (let i = 0; i < indices.length; i++) values[indices[i] - from] = negative[i] === 1 ? -scale : scale
    yield values
  }
}

/** Kept entries in ascending order of flat row-major index. */
export interface SparseTensor {
  indices: Int32Array<ArrayBuffer>
  /** 1 or −1. */
  signs: Int8Array<ArrayBuffer>
}

/** A ternary tensor as indices and signs, in pieces that follow one another. */
export async function* decodeSparse(
  source: ByteSource,
  head: TritHead,
  tensor: TernaryTensor,
  options?: ReadOptions,
): AsyncGenerator<SparseTensor> {
  for await (const { from, to, ...entries } of bands(source, head, tensor, options)) {
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

/** A run of flat elements, and the kept entries in it. */
interface Band extends TernaryEntries {
  from: number
  to: number
}

/** Entries come in block order, so those of one row of tiles, and of one piece of a vector, stand together. */
async function* bands(
  source: ByteSource,
  head: TritHead,
  tensor: TernaryTensor,
  options?: ReadOptions,
): AsyncGenerator<Band> {
  const { rows, cols, tileRows } = tilingOf(tensor.shape)
  const { indices, negative } = decodeTernary(
    tensor.shape,
    ternarySection(tensor, await readSection(source, head, tensor, options)),
  )
  const step = rows === 1 ? PIECE_WEIGHTS : tileRows * cols
  for (let from = 0, start = 0; from < rows * cols; from += step) {
    const to = Math.min(from + step, rows * cols)
    let end = start
    while (end < indices.length && indices[end] < to) end++
    yield { from, to, indices: indices.subarray(start, end), negative: negative.subarray(start, end) }
    start = end
  }
}

async function* densePieces(source: ByteSource, head: TritHead, tensor: DenseTensor, options?: ReadOptions) {
  const weights = weightsOf(tensor.shape)
  const size = tensor.dtype === 'f16' ? 2 : 4
  for (let from = 0; from < weights; from += PIECE_WEIGHTS) {
    const count = Math.min(PIECE_WEIGHTS, weights - from)
    const part = { ...tensor, offset: tensor.offset + from * size, bytes: count * size }
    const section = await readSection(source, head, part, options)
    if (head.table.kind === 'expert') checkFinite(head.table, part.offset, section, source.name)
    yield decodeDense(section, count, tensor.dtype)
  }
}
