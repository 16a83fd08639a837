/**
 * Hostile files and sections for the reader and the decoder, from a seed. Every case must end in one of our errors
 * or in a result that is true to itself: never in another error, an index out of range, or memory that the bytes
 * of the case cannot account for.
 *
 * @module
 */
import { deflateSync, inflateSync } from 'fflate'
import { isTritswapError } from '../../src/errors.ts'
import { decodeExact, encodeExact } from '../../src/format/codecs/exact_code.ts'
import { decodeStepsOf, decodeTermsOf, summaryOf } from '../../src/format/codecs/index.ts'
import {
  blocksLayout,
  decodeTernary,
  decodeValues,
  encodeTerms,
  encodeTernary,
  MAX_TABLE_BYTES,
  memorySpool,
  PREFIX_BYTES,
  readHead,
  readSection,
  sha256,
  type TernaryEntries,
  type TernarySection,
  type TritTensor,
  TritWriter,
  ternarySection,
  weightsOf,
} from '../../src/format/index.ts'
import { NO_VALUE } from '../../src/format/sketch.ts'
import type { Steps } from '../../src/format/steps.ts'
import { memorySource } from '../../src/source/memory.ts'
import { buildGolden } from './golden_content.ts'
import { PLAIN_TABLE, randomEntries, randomFrom, smallFile, sorted } from './samples.ts'

export type FuzzCase =
  | { kind: 'file'; bytes: Uint8Array<ArrayBuffer> }
  | { kind: 'section'; shape: readonly number[]; section: TernarySection }

type Random = () => number
const below = (random: Random, n: number) => Math.floor(random() * n)
const pick = <T>(random: Random, choices: readonly T[]): T => choices[below(random, choices.length)]

/** Numbers that hostile files are fond of. */
const NUMBERS = [
  0,
  1,
  2,
  3,
  7,
  31,
  32,
  63,
  64,
  255,
  4095,
  4096,
  4097,
  65_535,
  65_536,
  2 ** 20,
  2 ** 24,
  2 ** 28,
  2 ** 30,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 53,
  1e308,
  -1,
  -0,
  0.5,
  Number.NaN,
]
const VALUES = [
  ...NUMBERS,
  null,
  true,
  '',
  'x',
  'ternary',
  'dense',
  'loraB',
  'base',
  [],
  {},
  [1],
  '__proto__',
  'x'.repeat(5000),
]

/** The files that cases are made from. */
export async function fuzzSeeds(): Promise<Uint8Array<ArrayBuffer>[]> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  for (const [name, shape] of [
    ['q', [6, 4]],
    ['k', [2, 4]],
    ['bias', [6]],
  ] as const) {
    const values = Float32Array.from({ length: weightsOf(shape) }, (_, i) => i)
    await writer.add({ name, target: name, shape, role: 'delta', codec: 'dense', dtype: 'f32' }, values)
  }
  const blocks = { bits: 4, blockSize: 16, dtype: 'f16', zeroPoints: 'packed' } as const
  const section = Uint8Array.from({ length: blocksLayout([4, 20], blocks).bytes }, (_, i) => i)
  const common = { name: 'packed', target: 'packed', shape: [4, 20], role: 'delta' } as const
  await writer.add({ ...common, codec: 'blocks', ...blocks }, section)
  const packed = { tensor: 'packed', offset: 0, colStride: 1 }
  const inputs = [
    { name: 'p_Q4', dtype: 'uint8', dims: [4, 2, 8], raw: 'weights', parts: [{ ...packed, rowStride: 16 }] },
    { name: 'p_scales', dtype: 'float16', dims: [8], raw: 'scales', parts: [{ ...packed, rowStride: 2 }] },
    { name: 'p_zero', dtype: 'uint8', dims: [4], raw: 'zeroPoints', parts: [{ ...packed, rowStride: 1 }] },
    {
      name: 'qk',
      dtype: 'float32',
      dims: [4, 8],
      parts: [
        { tensor: 'q', offset: 0, rowStride: 1, colStride: 8 },
        { tensor: 'k', offset: 6, rowStride: 1, colStride: 8 },
      ],
    },
    {
      name: 'bias',
      dtype: 'float16',
      dims: [6],
      parts: [{ tensor: 'bias', offset: 0, rowStride: 6, colStride: 1 }],
    },
  ] as const
  const head = await writer.finish({
    ...PLAIN_TABLE,
    kind: 'base',
    bindings: { graphs: [{ file: 'onnx/model.onnx', inputs }] },
  })
  return [
    await buildGolden(),
    await smallFile(),
    spool.join(head),
    await fileOfTerms(),
    await fileOfSteps(),
    await fileOfRows(),
    await fileOfCaches(),
  ]
}

/** Layers that an entry of the table names together. */
async function fileOfTerms(): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const vectors = { scales: Float32Array.of(0.5, -0.25), x: new Int8Array(18).fill(1), y: new Int8Array(22) }
  const common = { shape: [9, 11], role: 'delta', codec: 'terms', terms: 2, layout: 'linear' } as const
  for (const i of [0, 1, 5]) {
    const name = `layers.${i}.w`
    await writer.add({ ...common, name, target: name }, encodeTerms([9, 11], vectors))
  }
  for (const i of [0, 1]) {
    const name = `masked.${i}.w`
    const masked = { ...vectors, y: new Int8Array(22).fill(-1, 0, 20 * i) }
    await writer.add({ ...common, packing: 'mask', name, target: name }, encodeTerms([9, 11], masked, 'mask'))
  }
  const sketch = Uint16Array.from({ length: 40 }, (_, i) => (i % 8 < 2 ? i : NO_VALUE))
  return spool.join(
    await writer.finish({ ...PLAIN_TABLE, method: 'lora', invocation: [1, 2], base: { sketch } }),
  )
}

/** Virtual tokens before a prompt, as rows of the embedding. */
async function fileOfRows(): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const shape = [3, 8]
  const values = Float32Array.from({ length: weightsOf(shape) }, (_, i) => i / 8)
  await writer.add(
    {
      name: 'prompt_embeddings',
      target: 'embed.weight',
      shape,
      role: 'virtual',
      codec: 'dense',
      dtype: 'f32',
    },
    values,
  )
  return spool.join(await writer.finish({ ...PLAIN_TABLE, method: 'prompt' }))
}

/** The same as keys and values of two layers, some of them ternary. */
async function fileOfCaches(): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const shape = [2, 3, 4]
  for (const layer of [0, 1])
    for (const kind of ['key', 'value']) {
      const name = `past_key_values.${layer}.${kind}`
      const common = { name, target: name, shape, role: 'virtual' } as const
      if (kind === 'key') {
        await writer.add(
          { ...common, codec: 'dense', dtype: 'f32' },
          new Float32Array(weightsOf(shape)).fill(layer),
        )
      } else {
        const { words, ...code } = encodeTernary(shape, randomEntries(weightsOf(shape), 0.5, layer))
        await writer.add({ ...common, codec: 'ternary', scale: 0.25, ...code }, words)
      }
    }
  return spool.join(await writer.finish({ ...PLAIN_TABLE, method: 'prompt' }))
}

/** A tensor in each unit: steps of one, some of more, and of all that a word has. */
async function fileOfSteps(): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const random = randomFrom(11)
  for (const [unit, shape, every] of [
    ['bf16', [70, 80], 40],
    ['f16', [300], 3],
    ['f32', [9, 7], 1],
  ] as const) {
    const places = Uint32Array.from({ length: Math.ceil(weightsOf(shape) / every) }, (_, i) => i * every)
    const far = unit === 'f32' ? 2 ** 31 : 2 ** 15
    const steps = Int32Array.from(places, () => pick(random, [1, 1, 1, -1, 2, -9, -far, far - 1]))
    const { words, ...code } = encodeExact(unit, { places, steps })
    const common = { name: unit, target: unit, shape, role: 'delta', codec: 'exact' } as const
    await writer.add({ ...common, ...code, roundedInF16: 0 }, words)
  }
  return spool.join(await writer.finish({ ...PLAIN_TABLE }))
}

/** One case; the same seeds and `random` make the same case. */
export async function fuzzCase(random: Random, seeds: readonly Uint8Array<ArrayBuffer>[]): Promise<FuzzCase> {
  const seed = pick(random, seeds)
  switch (below(random, 6)) {
    case 0: {
      const bytes = Uint8Array.from({ length: below(random, 400) }, () => below(random, 256))
      // Half of them with a prefix that gets past the first checks.
      if (random() < 0.5) bytes.set(seed.subarray(0, Math.min(bytes.length, below(random, PREFIX_BYTES + 1))))
      return { kind: 'file', bytes }
    }
    case 1:
      return { kind: 'file', bytes: mutated(random, seed) }
    case 2:
    case 3: {
      const { json, payload } = partsOf(seed)
      const table: unknown = JSON.parse(json)
      for (let i = 0; i <= below(random, 3); i++) changeJson(random, table)
      return { kind: 'file', bytes: await rebuilt(seed, JSON.stringify(table), payload) }
    }
    case 4: {
      const { json, payload } = partsOf(seed)
      const changed =
        random() < 0.5
          ? mutated(random, payload, payload.length)
          : payload.map((byte) => (random() < 0.02 ? below(random, 256) : byte))
      return {
        kind: 'file',
        bytes: await rebuilt(
          seed,
          random() < 0.1 ? text(mutated(random, new TextEncoder().encode(json))) : json,
          changed,
        ),
      }
    }
    default:
      return sectionCase(random)
  }
}

/** A true section with fields or words changed, or one of noise. */
function sectionCase(random: Random): FuzzCase {
  const size = () => 1 + below(random, pick(random, [4, 70, 300]))
  const shape = pick(random, [
    [size()],
    [size(), size()],
    [size(), size(), 3],
    [2 ** below(random, 20), 2 ** below(random, 11)],
  ])
  const weights = weightsOf(shape)
  const density = weights > 2 ** 16 ? 64 / weights : pick(random, [0, 0.01, 0.1, 0.5, 1])
  const section =
    weights > 2 ** 20
      ? noise(random)
      : encodeTernary(shape, randomEntries(Math.min(weights, 2 ** 16), density, below(random, 2 ** 31)))
  if (random() < 0.3) {
    const field = pick(random, ['kept', 'm', 'lengthMin', 'lengthBits'] as const)
    section[field] =
      random() < 0.5
        ? section[field] + below(random, 5) - 2
        : Math.abs(Math.trunc(pick(random, NUMBERS))) || 0
  }
  const words =
    random() < 0.1 ? section.words.slice(0, below(random, section.words.length + 1)) : section.words
  for (let i = below(random, 4); i > 0 && words.length > 0; i--)
    words[below(random, words.length)] = random() < 0.5 ? 0 : random() * 2 ** 32
  return { kind: 'section', shape, section: { ...section, words } }
}

function noise(random: Random): TernarySection {
  const words = Uint32Array.from({ length: below(random, 2000) }, () =>
    random() < 0.3 ? 0 : random() * 2 ** 32,
  )
  return {
    kept: below(random, words.length * 16 + 1),
    m: 1 + below(random, 4096),
    lengthMin: below(random, 60),
    lengthBits: below(random, 17),
    words,
  }
}

/** Bytes with some flipped, overwritten, moved, cut off or inserted; `length` keeps the length. */
function mutated(random: Random, bytes: Uint8Array, length?: number): Uint8Array<ArrayBuffer> {
  let changed = bytes.slice() as Uint8Array<ArrayBuffer>
  for (let i = below(random, 6); i >= 0 && changed.length > 0; i--) {
    const at = below(random, random() < 0.3 ? Math.min(changed.length, PREFIX_BYTES) : changed.length)
    const view = new DataView(changed.buffer)
    switch (below(random, length === undefined ? 6 : 4)) {
      case 0:
        changed[at] ^= 1 << below(random, 8)
        break
      case 1:
        changed[at] = below(random, 256)
        break
      case 2:
        if (at + 4 <= changed.length) view.setUint32(at, pick(random, NUMBERS), true)
        break
      case 3:
        changed.copyWithin(at, below(random, changed.length), below(random, changed.length))
        break
      case 4:
        changed = changed.slice(0, at)
        break
      default:
        changed = Uint8Array.from([
          ...changed.subarray(0, at),
          ...changed.subarray(below(random, changed.length)),
        ])
    }
  }
  return changed
}

/** Replaces, removes or copies one value somewhere in a JSON tree. */
function changeJson(random: Random, root: unknown): void {
  let node = root as Record<string, unknown>
  for (;;) {
    const keys = Object.keys(node)
    if (keys.length === 0) return
    const key = pick(random, keys)
    const child = node[key]
    if (typeof child === 'object' && child !== null && random() < 0.9) {
      node = child as Record<string, unknown>
      continue
    }
    if (random() < 0.15) delete node[key]
    else if (typeof child === 'number' && random() < 0.4) node[key] = child + below(random, 9) - 4
    else {
      // A copy: a value that stands in two places, or in VALUES, could come to hold itself.
      const value = random() < 0.2 ? child : pick(random, VALUES)
      node[pick(random, keys)] = structuredClone(value)
    }
    return
  }
}

function partsOf(file: Uint8Array): { json: string; payload: Uint8Array } {
  const view = new DataView(file.buffer, file.byteOffset)
  const table = view.getUint32(8, true)
  const payload = file.subarray(PREFIX_BYTES + table + 32 * view.getUint32(24, true))
  return { json: text(inflateSync(file.subarray(PREFIX_BYTES, PREFIX_BYTES + table))), payload }
}

/** A file with true sizes and hashes around a table and a payload that may be anything. */
async function rebuilt(
  seed: Uint8Array,
  json: string,
  payload: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>> {
  const inflated = new TextEncoder().encode(json)
  const table = deflateSync(inflated)
  const file = new Uint8Array(PREFIX_BYTES + table.length + (payload.length > 0 ? 32 : 0) + payload.length)
  file.set(seed.subarray(0, 8))
  const view = new DataView(file.buffer)
  for (const [offset, value] of [
    [8, table.length],
    [12, inflated.length],
    [16, payload.length],
    [24, payload.length > 0 ? 1 : 0],
  ]) {
    view.setUint32(offset, value, true)
  }
  file.set(table, PREFIX_BYTES)
  if (payload.length > 0) file.set(await sha256(payload.slice()), PREFIX_BYTES + table.length)
  file.set(payload, file.length - payload.length)
  return file
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

/**
 * Runs one case.
 * @returns what it did: the tag of its error, or `decoded`
 * @throws whatever is not one of our errors, and an Error that says how a result is wrong
 */
export async function runCase(fuzzed: FuzzCase): Promise<string> {
  const meter = meterAllocations()
  try {
    if (fuzzed.kind === 'file') await readFile(fuzzed.bytes)
    else checkEntries(fuzzed.shape, fuzzed.section.kept, decodeTernary(fuzzed.shape, fuzzed.section))
    return 'decoded'
  } catch (error) {
    if (isTritswapError(error) && ['format', 'limit', 'integrity'].includes(error.tag)) return error.tag
    throw error
  } finally {
    const allocated = meter.stop()
    const length = fuzzed.kind === 'file' ? fuzzed.bytes.length : fuzzed.section.words.byteLength
    // 40 bytes for one of the file, two copies of the inflated table, and the tables of the decoder.
    const inflated =
      fuzzed.kind === 'file' && length >= 16
        ? Math.min(MAX_TABLE_BYTES, new DataView(fuzzed.bytes.buffer).getUint32(12, true))
        : 0
    if (allocated > 2 ** 20 + 40 * length + 2 * inflated) {
      // biome-ignore lint/correctness/noUnsafeFinally: taking too much memory is worse than any error it took it for
      throw new Error(`${allocated} bytes allocated for a case of ${length}`)
    }
  }
}

async function readFile(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const source = memorySource(bytes)
  const head = await readHead(source)
  for (const tensor of head.table.tensors) {
    const section = await readSection(source, head, tensor)
    const steps = decodeStepsOf(tensor, section)
    if (steps !== undefined) {
      checkSteps(tensor, steps)
    } else if (tensor.codec === 'terms') {
      // Expanded they would take any amount of memory.
      const { x, y } = decodeTermsOf(tensor, section)!
      if (![...x, ...y].every((entry) => Math.abs(entry) <= 1))
        throw new Error(`no entries in ${tensor.name}`)
    } else if (tensor.codec !== 'ternary') {
      const values = decodeValues(tensor, section)
      if (values.length !== weightsOf(tensor.shape))
        throw new Error(`${values.length} values in ${tensor.name}`)
    } else {
      checkEntries(tensor.shape, tensor.kept, decodeTernary(tensor.shape, ternarySection(tensor, section)))
    }
  }
}

/** Steps in range survive the encoder, which has other parameters to choose from. */
function checkSteps(tensor: TritTensor, found: Steps): void {
  const { kept = 0, unit = 'f32' } = summaryOf(tensor)
  if (found.places.length !== kept) throw new Error(`${found.places.length} steps, not ${kept}`)
  const { words, ...code } = encodeExact(unit, found)
  const again = decodeExact(tensor.shape, code, new Uint8Array(words.buffer))
  for (const [i, place] of found.places.entries())
    if (again.places[i] !== place || again.steps[i] !== found.steps[i] || found.steps[i] === 0)
      throw new Error('steps change when they are encoded again')
}

/** Entries in range and of different places survive the encoder, which refuses all others. */
function checkEntries(shape: readonly number[], kept: number, entries: TernaryEntries): void {
  if (entries.indices.length !== kept) throw new Error(`${entries.indices.length} entries, not ${kept}`)
  const ordered = sorted(entries)
  const again = decodeTernary(
    shape,
    encodeTernary(shape, {
      indices: Uint32Array.from(ordered.indices),
      negative: Uint8Array.from(ordered.negative),
    }),
  )
  if (JSON.stringify(sorted(again)) !== JSON.stringify(ordered))
    throw new Error('entries change when they are encoded again')
}

/** Counts the bytes of typed arrays that are made by length, until stopped. */
function meterAllocations(): { stop(): number } {
  const names = [
    'Uint8Array',
    'Uint16Array',
    'Uint32Array',
    'Int32Array',
    'Float32Array',
    'Float64Array',
  ] as const
  const originals = names.map((name) => globalThis[name])
  let allocated = 0
  for (const [i, name] of names.entries()) {
    const counted = new Proxy(originals[i], {
      construct(target, args) {
        if (typeof args[0] === 'number') allocated += args[0] * target.BYTES_PER_ELEMENT
        return Reflect.construct(target, args)
      },
    })
    Object.assign(globalThis, { [name]: counted })
  }
  return {
    stop() {
      for (const [i, name] of names.entries()) Object.assign(globalThis, { [name]: originals[i] })
      return allocated
    },
  }
}

export interface FuzzFailure {
  index: number
  fuzzed: FuzzCase
  error: unknown
}

/**
 * Runs cases `from`, `from + 1`, … until `goOn` says no.
 * @returns how often each outcome came, and the failures
 */
export async function fuzz(
  seed: number,
  goOn: (index: number) => boolean,
  from = 0,
): Promise<{ cases: number; outcomes: Record<string, number>; failures: FuzzFailure[] }> {
  const seeds = await fuzzSeeds()
  const outcomes: Record<string, number> = {}
  const failures: FuzzFailure[] = []
  let index = from
  for (; goOn(index); index++) {
    const random = randomFrom(Math.imul(seed + index, 0x9e3779b1))
    // The first numbers of a xorshift are much alike for seeds that are.
    for (let i = 0; i < 8; i++) random()
    const fuzzed = await fuzzCase(random, seeds)
    try {
      const outcome = await runCase(fuzzed)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    } catch (error) {
      failures.push({ index, fuzzed, error })
    }
  }
  return { cases: index - from, outcomes, failures }
}

/** A case as the file that keeps it, and back. */
export function packCase(fuzzed: FuzzCase): { extension: 'trit' | 'json'; bytes: Uint8Array } {
  if (fuzzed.kind === 'file') return { extension: 'trit', bytes: fuzzed.bytes }
  const { shape, section } = fuzzed
  return {
    extension: 'json',
    bytes: new TextEncoder().encode(`${JSON.stringify({ shape, ...section, words: [...section.words] })}\n`),
  }
}

export function unpackCase(name: string, bytes: Uint8Array): FuzzCase {
  if (name.endsWith('.trit')) return { kind: 'file', bytes: Uint8Array.from(bytes) }
  const { shape, words, ...code } = JSON.parse(text(bytes)) as Record<string, never> & {
    shape: number[]
    words: number[]
  } & Omit<TernarySection, 'words'>
  return { kind: 'section', shape, section: { ...code, words: Uint32Array.from(words) } }
}
