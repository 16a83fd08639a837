import { TritswapError } from '../../errors.ts'
import { BitWriter, fieldAt, trailingZeros, windowAt, wordsFor } from '../bits.ts'
import { bestGolomb, codeTable, type GolombCode, golombCode, MAX_GOLOMB, TABLE_MASK } from '../golomb.ts'
import { BLOCK_WEIGHTS, MAX_LENGTH_BITS, MAX_STREAM_BITS, MAX_TENSOR_WEIGHTS } from '../limits.ts'
import { type Tile, tileAt, tilingOf, weightsOf } from '../tiling.ts'

/** The kept entries of one tensor: everything of a ternary task vector but its scale. */
export interface TernaryEntries {
  /** Flat row-major indices. */
  indices: Uint32Array
  /** 1 where the entry is −scale, 0 where it is +scale. */
  negative: Uint8Array
}

/** What the table says of a ternary section besides its bytes. */
export interface TernaryCode {
  kept: number
  /** Golomb parameter of the gaps. */
  m: number
  /** A block's length in bits is `lengthMin` plus a field of `lengthBits` bits at the head of the section. */
  lengthMin: number
  lengthBits: number
}

/**
 * One ternary section as it is stored, uploaded and decoded: `⌈blocks·lengthBits/32⌉` words of block lengths,
 * then the code words of all blocks without padding between them. A block starts at the sum of the lengths
 * before it, at gap 0 from its own first weight, so any block can be decoded alone.
 */
export interface TernarySection extends TernaryCode {
  words: Uint32Array<ArrayBuffer>
}

/**
 * Encodes entries in ascending order of index.
 * @throws {TritswapError} `input` for indices out of order or range, `limit` for a tensor or stream that is too long.
 */
export function encodeTernary(shape: readonly number[], entries: TernaryEntries): TernarySection {
  return encodeBlocks(sortIntoBlocks(shape, entries))
}

/** Kept entries grouped by block, as the encoder takes them: a compressor that works tile by tile has them so. */
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

let decodeCalls = 0

/** Calls of {@link decodeTernary} on this thread: the engine reports it, because there it must stay 0. */
export function ternaryDecodeCalls(): number {
  return decodeCalls
}

/**
 * Decodes a section: the reference of every kernel that reads one, and what `decode` uses. Entries come in
 * block order, ascending inside a block.
 *
 * @param into - arrays to use again where they are long enough: fresh memory costs as much as the decoding
 * @throws {TritswapError} `format` when lengths, positions or counts do not agree with each other; nothing is
 * read or written out of range whatever the words hold, and nothing is allocated that the words cannot fill.
 */
export function decodeTernary(
  shape: readonly number[],
  section: TernarySection,
  into: TernaryEntries = { indices: new Uint32Array(0), negative: new Uint8Array(0) },
): TernaryEntries {
  decodeCalls++
  const tiling = tilingOf(shape)
  const { kept, m, lengthMin, lengthBits } = section
  if (m < 1 || m > MAX_GOLOMB || lengthBits > MAX_LENGTH_BITS || weightsOf(shape) > MAX_TENSOR_WEIGHTS) {
    throw malformed(`it has Golomb parameter ${m}, lengths of ${lengthBits} bits and shape [${shape}]`)
  }
  const code = golombCode(m)
  const indexWords = wordsFor(tiling.blocks * lengthBits)
  const streamWords = section.words.length - indexWords
  if (streamWords < 0 || streamWords * 32 < Math.max(kept * (2 + code.low), tiling.blocks * lengthMin)) {
    throw malformed(`${section.words.length} words cannot hold ${kept} entries in ${tiling.blocks} blocks`)
  }
  if (wordsFor(MAX_STREAM_BITS) < streamWords) throw malformed(`its ${streamWords} words are over the limit`)

  const index = section.words.subarray(0, indexWords)
  const stream = section.words.subarray(indexWords)
  const table = codeTable(code)
  const entries = {
    indices: into.indices.length < kept ? new Uint32Array(kept) : into.indices.subarray(0, kept),
    negative: into.negative.length < kept ? new Uint8Array(kept) : into.negative.subarray(0, kept),
  }
  let bit = 0
  let count = 0
  // A tensor that lost everything has no bytes; a table can name many such, so walking their blocks is not free.
  for (let block = 0; section.words.length > 0 && block < tiling.blocks; block++) {
    const end = bit + lengthMin + fieldAt(index, block, lengthBits)
    if (end > streamWords * 32) throw malformed(`block ${block} ends at bit ${end} of ${streamWords * 32}`)
    count = decodeBlock(stream, bit, end, code, table, tileAt(tiling, block), tiling.cols, entries, count)
    bit = end
  }
  if (wordsFor(bit) !== streamWords)
    throw malformed(`its blocks take ${wordsFor(bit)} of ${streamWords} words`)
  if (count !== kept) throw malformed(`it has ${count} entries, not the ${kept} declared`)
  return entries
}

/** Decodes the block in bits [`start`, `end`) of a stream and returns the count of entries so far. */
function decodeBlock(
  stream: Uint32Array,
  start: number,
  end: number,
  { m, low, cut }: GolombCode,
  table: Uint32Array,
  { row, col, height, width }: Tile,
  cols: number,
  { indices, negative }: TernaryEntries,
  countBefore: number,
): number {
  const area = height * width
  const origin = row * cols + col
  const rowSkip = cols - width
  // ⌊position / width⌋ = position · ⌈2^shift / width⌉ >> shift: exact, since position · width < 4096 · 2^⌈log2 width⌉.
  const shift = 12 + 32 - Math.clz32(width - 1)
  const inverse = Math.ceil((1 << shift) / width)
  let bit = start
  let count = countBefore
  let next = 0
  while (bit < end) {
    let window = windowAt(stream, bit)
    const known = table[window & TABLE_MASK]
    let position = next
    let sign = (known >>> 4) & 1
    if (known !== 0) {
      bit += known & 15
      position += known >>> 5
    } else {
      let quotient = 0
      while (window === 0) {
        bit += 32
        quotient += 32
        if (bit >= end) throw malformed(`a code of the block at row ${row}, column ${col} runs past its end`)
        window = windowAt(stream, bit)
      }
      const zeros = trailingZeros(window)
      const tail = windowAt(stream, bit + zeros + 1)
      const short = tail & ((1 << low) - 1)
      const wide = short < cut ? 0 : 1
      const remainder = wide === 0 ? short : 2 * short + ((tail >>> low) & 1) - cut
      position += (quotient + zeros) * m + remainder
      sign = (tail >>> (low + wide)) & 1
      bit += zeros + low + wide + 2
    }
    if (position >= area || count >= indices.length) {
      throw malformed(
        position >= area
          ? `the block at row ${row}, column ${col} has an entry at ${position} of ${area} weights`
          : `it has more entries than the ${indices.length} declared`,
      )
    }
    next = position + 1
    indices[count] = origin + position + Math.imul(Math.imul(position, inverse) >>> shift, rowSkip)
    negative[count++] = sign
  }
  if (bit !== end) throw malformed(`the block at row ${row}, column ${col} ends at bit ${bit}, not at ${end}`)
  return count
}

function malformed(what: string): TritswapError {
  return new TritswapError('format', `Cannot decode a ternary section: ${what}`)
}
