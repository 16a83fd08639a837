import { TritswapError } from '../../errors.ts'
import { fieldAt, trailingZeros, windowAt, wordsFor } from '../bits.ts'
import { codeTable, type GolombCode, golombCode, TABLE_MASK } from '../golomb.ts'
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
  if (m < 1 || m > BLOCK_WEIGHTS || lengthBits > MAX_LENGTH_BITS || weightsOf(shape) > MAX_TENSOR_WEIGHTS) {
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
