/**
 * The index of a registry: names and centroids of all its experts in one file, so that a page lists, searches and routes
 * among ten thousand of them before it has fetched any entry.
 *
 * ```
 * bytes   what (little-endian)
 * 8       "TRITIDX1"
 * 16      name of the space that centroids lie in, ASCII, filled up with zeros
 * 4       values of a centroid (D)
 * 4       experts (N)
 * 4       centroids (C)
 * 4       bytes of names
 * …       names: for each expert its id, a tab, its label, a line feed; UTF-8
 * N       centroids of each expert, 0 to 8
 * 0 to 3  zeros, up to a multiple of 4
 * 4·D·W   signs, by value and then by centroid; W = ⌈C / 32⌉ words a row
 * C·D/8   magnitudes, by centroid: a bit for each value, 1 where it is large
 * ```
 *
 * @module
 */
import { atOnce } from '../async/in_steps.ts'
import { TritswapError } from '../errors.ts'
import { type CentroidTable, centroidTable, ownersOf, rowWords } from './centroid_table.ts'
import { type Centroid, MAX_CENTROIDS, PLANE_WORDS } from './centroids.ts'
import { DIMS, SPACE } from './space.ts'

const MAGIC = 'TRITIDX1'
const SPACE_BYTES = 16
const HEAD_BYTES = MAGIC.length + SPACE_BYTES + 4 * 4

/** Names that are read in one step. */
const STEP_NAMES = 1000

/** As many as a registry may list. */
const MAX_EXPERTS = 1_000_000

/** An index of ten thousand experts with eight centroids each stays under 20 MB; this has room for fifty thousand. */
export const MAX_INDEX_BYTES = 100 << 20

export interface IndexedExpert {
  id: string
  label: string
}

/** An index as it is used: its table looks at the bytes of the file. */
export interface RegistryIndex {
  /** In the order of the registry. */
  experts: readonly IndexedExpert[]
  table: CentroidTable
}

/** @param experts - in the order of the registry; those without centroids are listed, but no route leads to them */
export function writeIndex(
  experts: readonly (IndexedExpert & { centroids: readonly Centroid[] })[],
): Uint8Array<ArrayBuffer> {
  const table = centroidTable(experts.map(({ centroids }) => centroids))
  const names = new TextEncoder().encode(
    experts.map(({ id, label }) => `${id}\t${label.replace(/\s+/g, ' ')}\n`).join(''),
  )
  const layout = layoutOf(experts.length, table.count, names.length)
  const bytes = new Uint8Array(layout.end)
  bytes.set(new TextEncoder().encode(MAGIC))
  bytes.set(new TextEncoder().encode(SPACE), MAGIC.length)
  const view = new DataView(bytes.buffer)
  const head = [DIMS, experts.length, table.count, names.length]
  for (const [i, value] of head.entries()) view.setUint32(MAGIC.length + SPACE_BYTES + 4 * i, value, true)
  bytes.set(names, HEAD_BYTES)
  for (const [i, { centroids }] of experts.entries()) bytes[layout.counts + i] = centroids.length
  for (const [i, word] of table.signs.entries()) view.setUint32(layout.signs + 4 * i, word, true)
  for (const [i, word] of table.magnitudes.entries()) view.setUint32(layout.magnitudes + 4 * i, word, true)
  return bytes
}

/**
 * Reads an index. The machine must be little-endian, as all that run browsers are.
 * @throws {TritswapError} `format` for a file that is not an index, `unsupported` for one of another space
 */
export function readIndex(bytes: Uint8Array<ArrayBuffer>, name: string): RegistryIndex {
  return atOnce(readingIndex(bytes, name))
}

/** The same, in steps. */
export function* readingIndex(bytes: Uint8Array<ArrayBuffer>, name: string): Generator<void, RegistryIndex> {
  const wrong = (what: string) =>
    new TritswapError('format', `Cannot read the index ${name}: ${what}; build the registry again`, {
      fields: { name },
    })
  if (bytes.length < HEAD_BYTES || ascii(bytes.subarray(0, MAGIC.length)) !== MAGIC)
    throw wrong(`it does not begin with ${MAGIC}`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const [dims = 0, experts = 0, count = 0, nameBytes = 0] = [0, 4, 8, 12].map((at) =>
    view.getUint32(MAGIC.length + SPACE_BYTES + at, true),
  )
  const space = ascii(bytes.subarray(MAGIC.length, MAGIC.length + SPACE_BYTES)).replace(/\0+$/, '')
  if (space !== SPACE || dims !== DIMS) {
    throw new TritswapError(
      'unsupported',
      `Cannot read the index ${name}: expected centroids in ${SPACE} of ${DIMS} values, found ${space} of ${dims}; build the registry with this version of tritswap`,
      { fields: { name, expected: SPACE, found: space } },
    )
  }
  if (experts > MAX_EXPERTS || count > experts * MAX_CENTROIDS)
    throw wrong(`it claims ${experts} experts with ${count} centroids`)
  const layout = layoutOf(experts, count, nameBytes)
  if (bytes.length !== layout.end) throw wrong(`expected ${layout.end} bytes, found ${bytes.length}`)
  const counts = bytes.subarray(layout.counts, layout.counts + experts)
  if (counts.some((each) => each > MAX_CENTROIDS) || counts.reduce((sum, each) => sum + each, 0) !== count)
    throw wrong(`the centroids of its experts do not add up to ${count}`)
  yield
  const names = yield* namesIn(bytes.subarray(HEAD_BYTES, layout.counts))
  if (names?.length !== experts) throw wrong(`expected the names of ${experts} experts`)
  const words = (at: number, length: number) => new Uint32Array(bytes.buffer, bytes.byteOffset + at, length)
  const table: CentroidTable = {
    count,
    owners: ownersOf(counts),
    signs: words(layout.signs, DIMS * rowWords(count)),
    magnitudes: words(layout.magnitudes, count * PLANE_WORDS),
  }
  return { experts: names, table }
}

/** Where its parts lie. */
function layoutOf(experts: number, centroids: number, nameBytes: number) {
  const counts = HEAD_BYTES + nameBytes
  const signs = Math.ceil((counts + experts) / 4) * 4
  const magnitudes = signs + 4 * DIMS * rowWords(centroids)
  return { counts, signs, magnitudes, end: magnitudes + 4 * centroids * PLANE_WORDS }
}

/** Undefined for what is not a list of names. */
function* namesIn(bytes: Uint8Array): Generator<void, IndexedExpert[] | undefined> {
  let lines: string[]
  try {
    lines = new TextDecoder('utf-8', { fatal: true }).decode(bytes).split('\n')
  } catch {
    return undefined
  }
  lines.pop()
  const names: IndexedExpert[] = []
  for (const line of lines) {
    const tab = line.indexOf('\t')
    names.push({ id: line.slice(0, tab), label: line.slice(tab + 1) })
    if (names.length % STEP_NAMES === 0) yield
  }
  return names
}

function ascii(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}

/** The centroids of each expert of an index, to write them again. */
export function centroidsIn({ experts, table }: RegistryIndex): Map<string, Centroid[]> {
  const words = rowWords(table.count)
  const found = new Map<string, Centroid[]>(experts.map(({ id }) => [id, []]))
  for (let c = 0; c < table.count; c++) {
    const signs = new Uint32Array(PLANE_WORDS)
    for (let i = 0; i < DIMS; i++)
      signs[i >>> 5] |= ((table.signs[i * words + (c >>> 5)]! >>> (c & 31)) & 1) << (i & 31)
    const start = c * PLANE_WORDS
    const magnitudes = table.magnitudes.slice(start, start + PLANE_WORDS)
    found.get(experts[table.owners[c]!]!.id)!.push({ signs, magnitudes })
  }
  return found
}
