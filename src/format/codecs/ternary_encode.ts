import { TritswapError } from '../../errors.ts'
import { BitWriter, wordsFor } from '../bits.ts'
import { bestGolomb, type GolombCode, golombCode } from '../golomb.ts'
import { BLOCK_WEIGHTS, MAX_STREAM_BITS, MAX_TENSOR_WEIGHTS } from '../limits.ts'
import { tilingOf } from '../tiling.ts'
import type { TernaryEntries, TernarySection } from './ternary_decode.ts'

/**
 * Encodes entries in ascending order of index.
 * @throws {TritswapError} `input` for indices out of order or range, `limit` for a tensor or stream that is too long.
 */
export function encodeTernary(shape: readonly number[], entries: TernaryEntries): TernarySection {
  return encodeBlocks(sortIntoBlocks(shape, entries))
}

/** Kept entries grouped by block: what the encoder takes, and what a compressor that works tile by tile produces. */
export interface BlockedEntries {
  /** Block by block, ascending: `position in block · 2`, plus 1 where negative. */
  codes: Uint16Array
  /** First code of every block, and their number at the end. */
  starts: Uint32Array
}

/** @throws {TritswapError} `limit` for a stream over 2³² bits */
export function encodeBlocks({ codes, starts }: BlockedEntries): TernarySection {
  const blocks = starts.length - 1
  const code = golombCode(bestGolomb(gapHistogram(codes, starts)))

  const lengths = blockLengths(codes, starts, code)
  let lengthMin = Number.POSITIVE_INFINITY
  let lengthMax = 0
  let streamBits = 0
  for (let block = 0; block < blocks; block++) {
    const length = lengths[block]
    if (length < lengthMin) lengthMin = length
    if (length > lengthMax) lengthMax = length
    streamBits += length
  }
  if (streamBits > MAX_STREAM_BITS) {
    throw new TritswapError(
      'limit',
      `Cannot encode a tensor of ${streamBits} bits: the limit is ${MAX_STREAM_BITS}`,
    )
  }
  const lengthBits = 32 - Math.clz32(lengthMax - lengthMin)

  const indexWords = wordsFor(blocks * lengthBits)
  const words = new Uint32Array(indexWords + wordsFor(streamBits))
  const index = new BitWriter(words.subarray(0, indexWords))
  for (let block = 0; block < blocks; block++) index.write(lengths[block] - lengthMin, lengthBits)
  index.flush()
  writeStream(words.subarray(indexWords), codes, starts, code)
  return { kept: codes.length, m: code.m, lengthMin, lengthBits, words }
}

/** Groups entries by block; each becomes `position in block · 2 + sign`. */
function sortIntoBlocks(shape: readonly number[], { indices, negative }: TernaryEntries): BlockedEntries {
  const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(shape)
  const weights = rows * cols
  const count = indices.length
  if (weights > MAX_TENSOR_WEIGHTS) {
    throw new TritswapError(
      'limit',
      `Cannot encode a tensor of ${weights} weights: the limit is ${MAX_TENSOR_WEIGHTS}`,
    )
  }
  if (negative.length !== count) {
    throw new TritswapError(
      'input',
      `Cannot encode ${count} entries: expected as many signs, found ${negative.length}`,
    )
  }
  const starts = new Uint32Array(blocks + 1)
  const blockOf = new Uint32Array(count)
  const codes = new Uint16Array(count)
  let row = -1
  let rowEnd = 0
  let firstBlock = 0
  let rowInTile = 0
  let previous = -1
  for (let i = 0; i < count; i++) {
    const index = indices[i]
    if (index <= previous || index >= weights) {
      throw new TritswapError(
        'input',
        `Cannot encode entry ${i}: index ${index} after ${previous} of ${weights} weights`,
        {
          fields: { entry: i, index, previous, weights },
        },
      )
    }
    previous = index
    if (index >= rowEnd) {
      row = Math.floor(index / cols)
      rowEnd = (row + 1) * cols
      const band = Math.floor(row / tileRows)
      firstBlock = band * across
      rowInTile = row - band * tileRows
    }
    const col = index - (rowEnd - cols)
    const across_ = (col / tileCols) | 0
    const left = across_ * tileCols
    const width = Math.min(tileCols, cols - left)
    const block = firstBlock + across_
    blockOf[i] = block
    starts[block + 1]++
    codes[i] = ((rowInTile * width + (col - left)) << 1) | (negative[i] & 1)
  }
  for (let block = 0; block < blocks; block++) starts[block + 1] += starts[block]
  const next = starts.slice(0, blocks)
  const sorted = new Uint16Array(count)
  for (let i = 0; i < count; i++) sorted[next[blockOf[i]]++] = codes[i]
  return { codes: sorted, starts }
}

function gapHistogram(codes: Uint16Array, starts: Uint32Array): Uint32Array {
  const histogram = new Uint32Array(BLOCK_WEIGHTS)
  for (let block = 0; block + 1 < starts.length; block++) {
    let next = 0
    for (let i = starts[block]; i < starts[block + 1]; i++) {
      const position = codes[i] >>> 1
      histogram[position - next]++
      next = position + 1
    }
  }
  return histogram
}

function blockLengths(codes: Uint16Array, starts: Uint32Array, { m, low, cut }: GolombCode): Uint32Array {
  const lengths = new Uint32Array(starts.length - 1)
  for (let block = 0; block < lengths.length; block++) {
    let bits = 0
    let next = 0
    for (let i = starts[block]; i < starts[block + 1]; i++) {
      const position = codes[i] >>> 1
      const gap = position - next
      const quotient = (gap / m) | 0
      bits += quotient + 2 + low + (gap - quotient * m >= cut ? 1 : 0)
      next = position + 1
    }
    lengths[block] = bits
  }
  return lengths
}

function writeStream(words: Uint32Array, codes: Uint16Array, starts: Uint32Array, code: GolombCode): void {
  const { m, low, cut } = code
  const stream = new BitWriter(words)
  for (let block = 0; block + 1 < starts.length; block++) {
    let next = 0
    for (let i = starts[block]; i < starts[block + 1]; i++) {
      const position = codes[i] >>> 1
      const gap = position - next
      next = position + 1
      let quotient = (gap / m) | 0
      const remainder = gap - quotient * m
      for (; quotient > 15; quotient -= 16) stream.write(0, 16)
      // Terminator, remainder and sign in one field of at most 15 + 1 + 13 + 1 bits.
      let field = 1
      let size = 1
      if (remainder < cut) {
        field |= remainder << 1
        size += low
      } else {
        const wide = remainder + cut
        field |= ((wide >>> 1) << 1) | ((wide & 1) << (low + 1))
        size += low + 1
      }
      field |= (codes[i] & 1) << size
      stream.write(field << quotient, quotient + size + 1)
    }
  }
  stream.flush()
}
