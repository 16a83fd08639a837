import { fieldAt, wordsFor } from '../../src/format/bits.ts'
import { bitsFromHalf } from '../../src/format/float16.ts'
import { golombCode } from '../../src/format/golomb.ts'
import { encodeTernary, type TernaryEntries, tilingOf, weightsOf } from '../../src/format/index.ts'
import { Batch } from '../../src/gpu/batch.ts'
import { type SectionParams, sectionParams } from '../../src/gpu/experts/sections.ts'
import type { Gpu } from '../../src/gpu/index.ts'
import { wordsOfTile } from '../../src/gpu/job.ts'
import { type Bindings, type Kernel, kernelOf, type Params, type TargetDtype } from '../../src/gpu/kernel.ts'
import { Random, randomEntries } from './random.ts'
import { apply } from './twins/apply.ts'
import { blend } from './twins/blend.ts'
import { checksum } from './twins/checksum.ts'
import { dense } from './twins/dense.ts'
import { dequantize } from './twins/dequantize.ts'
import { expand } from './twins/expand.ts'
import { fill } from './twins/fill.ts'
import { fused } from './twins/fused.ts'
import { gather } from './twins/gather.ts'
import { gatherBlocks } from './twins/gather_blocks.ts'
import { indexBlocks } from './twins/index_blocks.ts'
import { indexCounts } from './twins/index_counts.ts'
import { indexOffsets, type Status } from './twins/index_offsets.ts'
import type { Job, Stream } from './twins/job.ts'
import { lowRank } from './twins/low_rank.ts'
import { elementOf } from './twins/place.ts'
import { restore } from './twins/restore.ts'
import { revert } from './twins/revert.ts'
import { save } from './twins/save.ts'
import { side } from './twins/side.ts'
import { Target } from './twins/target.ts'
import { unpack } from './twins/unpack.ts'

export interface Conformance {
  cases: number
  /** Comparisons of a kernel's output with its twin's. */
  comparisons: number
  /** What differed, in words; empty when all is well. */
  failures: string[]
}

/** Cases in flight: hides how long a browser takes to map a buffer. */
const AT_ONCE = 8

/** Runs every kernel and its twin on random cases. Needs nothing but a GPU: it also runs where no test runner does. */
export async function runConformance(gpu: Gpu, cases: number, seed: number): Promise<Conformance> {
  const result: Conformance = { cases, comparisons: 0, failures: [] }
  for (let first = 0; first < cases; first += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, cases - first) }, (_, i) => first + i)
    await Promise.all(
      numbers.map(async (i) => {
        // The variants for software adapters and for GPUs, in turns.
        const kind = { ...gpu, adapter: { ...gpu.adapter, software: i % 2 === 0 } }
        const one = new Case(kind, new Random(seed * 100_003 + i))
        for (const { name, wrong } of await one.run()) {
          result.comparisons++
          if (wrong !== undefined) result.failures.push(`case ${i} (${one.description}), ${name}: ${wrong}`)
        }
      }),
    )
  }
  return result
}

interface Comparison {
  name: string
  wrong: string | undefined
}

/** A copy of a buffer that is looked at when the whole case has run: waiting for each would take most of the time. */
interface Check {
  name: string
  staging: GPUBuffer
  wrong: (found: Uint32Array) => string | undefined
}

const EDGES = [1, 2, 63, 64, 65, 127, 128, 129]

function randomShape(random: Random): number[] {
  switch (random.integer(0, 6)) {
    case 0:
      return [random.pick([1, 7, 4095, 4096, 4097, 9000])]
    case 1:
      return [1, random.integer(1, 9000)]
    case 2:
      return [random.integer(1, 9000), 1]
    case 3:
      return [random.pick(EDGES), random.pick(EDGES)]
    case 4:
      return [random.integer(1, 12), random.integer(1, 12), 3, 3]
    default:
      return [random.integer(1, 150), random.integer(1, 150)]
  }
}

/** Raw weights that arithmetic must not meet but copying must keep. */
const SPECIAL = {
  float32: [
    0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffabcdef,
    0x7f7fffff,
  ],
  float16: [0, 0x8000, 1, 0x8001, 0x03ff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfdef, 0x7bff],
}
/** Those that it may meet: sums with them are exact or rounded in integers. */
const ORDINARY = { float32: [0, 0x80000000], float16: [0, 0x8000, 1, 0x8001, 0x03ff, 0x7bff, 0xfbff] }

const NO_PARAMS: Params = {}

class Case {
  readonly description: string
  readonly #gpu: Gpu
  readonly #random: Random
  readonly #dtype: TargetDtype
  readonly #shape: number[]
  readonly #checks: Check[] = []
  readonly #buffers: GPUBuffer[] = []

  constructor(gpu: Gpu, random: Random) {
    this.#gpu = gpu
    this.#random = random
    this.#dtype = random.pick(['float32', 'float16'])
    this.#shape = randomShape(random)
    this.description = `${this.#shape.join(' × ')}, ${this.#dtype}`
  }

  async run(): Promise<Comparison[]> {
    const random = this.#random
    const densities = [0, 0.001, 0.01, 0.05, 0.05, 0.2, 0.5, 1]
    const weights = weightsOf(this.#shape)
    const entries = Array.from({ length: 4 }, () => randomEntries(weights, random.pick(densities), random))
    const { arena, buffer, streams } = await this.#index(entries)
    await this.#merge(entries, arena, buffer, streams)
    await this.#unpack(arena, buffer, streams)
    await this.#side(arena, buffer, streams[0])
    await this.#dequantize()
    await this.#copy()
    await this.#lowRank()
    await this.#sums()
    const comparisons = await Promise.all(
      this.#checks.map(async ({ name, staging, wrong }) => {
        await staging.mapAsync(GPUMapMode.READ)
        return { name, wrong: wrong(new Uint32Array(staging.getMappedRange())) }
      }),
    )
    for (const buffer of this.#buffers) buffer.destroy()
    return comparisons
  }

  /** The index passes over four ternary streams, with a dense one of each kind behind them. */
  async #index(
    entries: readonly TernaryEntries[],
  ): Promise<{ arena: Uint32Array<ArrayBuffer>; buffer: GPUBuffer; streams: Stream[] }> {
    const random = this.#random
    const { blocks } = tilingOf(this.#shape)
    const encoded = entries.map((entry) => encodeTernary(this.#shape, entry))
    const denseWords = weightsOf(this.#shape)
    const size = encoded.reduce((sum, { words }) => sum + words.length + 2 * (blocks + 1), 5) + 2 * denseWords
    const arena = new Uint32Array(size)
    // The arena holds other things around what is looked at.
    for (let i = 0; i < size; i++) arena[i] = random.bits()
    let at = 3
    const placed = encoded.map(({ words, ...code }) => {
      arena.set(words, at)
      const tensor = { shape: this.#shape, bytes: words.length * 4, ...code }
      const place = { words: at + wordsFor(blocks * code.lengthBits), index: at + words.length }
      at = place.index + 2 * (blocks + 1)
      return { tensor, place }
    })
    const sections = sectionParams(placed, 0)
    if (random.unit() < 0.25) this.#spoil(sections)
    const kernels = await Promise.all(
      ['index_offsets', 'index_blocks', 'index_counts'].map((name) => kernelOf(this.#gpu, name)),
    )
    const buffer = this.#upload(arena)
    const table = this.#upload(new Uint32Array(kernels[0].packArray('sections', sections)))
    const status = this.#upload(Uint32Array.of(0, 0xffffffff))
    const bindings = { sections: { buffer: table }, arena: { buffer }, status: { buffer: status } }
    const batch = new Batch(this.#gpu)
    batch.dispatchGroups(kernels[0], bindings, NO_PARAMS, sections.length, 0)
    batch.dispatch(
      kernels[1],
      bindings,
      { first_block: 0, end_block: blocks * sections.length },
      blocks * sections.length,
    )
    batch.dispatchGroups(kernels[2], bindings, NO_PARAMS, sections.length, 0)
    batch.submit()
    const found: Status = [0, 0xffffffff]
    indexOffsets(sections, arena, found)
    const lengthsFailed = found[0] !== 0
    indexBlocks(sections, arena, found)
    // Counts of blocks that were not walked are whatever was there.
    if (!lengthsFailed) indexCounts(sections, arena, found)
    if (found[0] !== 0) {
      // Which failure is seen first may differ; that there is one may not.
      this.#check('index of a broken stream', status, 8, ([failures]) =>
        failures !== 0 ? undefined : 'it was not noticed',
      )
      return this.#index(entries)
    }
    this.#check('index status', status, 8, ([failures]) =>
      failures === 0 ? undefined : `failures ${failures}`,
    )
    this.#compare('index', buffer, arena)
    const streams = placed.map(({ tensor, place }): Stream => {
      const value = Math.fround((0.5 + random.unit()) * 2 ** random.integer(-9, -5))
      const code = { words: place.words, ...golombCode(tensor.m) }
      return { code, index: place.index, codec: 0, value, journal: 0 }
    })
    for (const codec of [1, 2]) {
      const values = random.floats(denseWords)
      for (let i = 0; i < denseWords; i++) {
        if (codec === 2) arena[at + i] = new Uint32Array(values.buffer)[i]
        else arena[at + i] = random.integer(0x2000, 0x2fff) | (random.integer(0xa000, 0xafff) << 16)
      }
      streams.push({
        code: { words: at, m: 0, low: 0, cut: 0 },
        index: 0,
        codec,
        value: random.pick([1, 0.5, -0.25]),
        journal: 0,
      })
      at += denseWords
    }
    this.#gpu.device.queue.writeBuffer(buffer, 0, arena)
    return { arena, buffer, streams }
  }

  /** The sums over blocks alone, of more of them than a test can encode: some fill their streams, some are too long. */
  async #sums(): Promise<void> {
    const random = this.#random
    let at = 2
    const numbers = () => random.pick([1, 63, 64, 65, 127, 129, random.integer(1, 700)])
    const sections = Array.from({ length: 3 }, (): SectionParams => {
      const [blocks, bits] = [numbers(), random.integer(0, 14)]
      const words = at
      const index = words + wordsFor(blocks * bits) + 1
      at = index + 2 * (blocks + 1)
      const unused = {
        m: 1,
        low: 0,
        cut: 0,
        rows: 1,
        cols: 1,
        tile_rows: 1,
        tile_cols: 1,
        across: 1,
        first_block: 0,
      }
      return {
        ...unused,
        words,
        index,
        blocks,
        length_bits: bits,
        // Some sums are past 2^32.
        length_min: random.pick([0, 3, 2 ** 14, 2 ** 26]),
        word_count: 0,
        kept: 0,
      }
    })
    const arena = Uint32Array.from({ length: at }, () => random.bits())
    for (const section of sections) {
      const lengths = arena.subarray(section.words)
      let bits = 0
      for (let block = 0; block < section.blocks; block++) {
        bits += section.length_min + fieldAt(lengths, block, section.length_bits)
        // What `index_blocks` may leave.
        arena[section.index + 2 * block + 1] = random.pick([0, 1, 4096, random.bits()])
        section.kept += arena[section.index + 2 * block + 1]
      }
      const spoilt = random.pick([0, 0, 1])
      section.word_count =
        wordsFor(section.blocks * section.length_bits) + (wordsFor(bits) % 2 ** 27) + spoilt
      section.kept = (section.kept + random.pick([0, 0, 1])) % 2 ** 32
    }
    const found: Status = [0, 0xffffffff]
    const [buffer, status] = [this.#upload(arena), this.#upload(Uint32Array.from(found))]
    for (const [name, twin] of [
      ['index_offsets', indexOffsets],
      ['index_counts', indexCounts],
    ] as const) {
      const kernel = await kernelOf(this.#gpu, name)
      const table = this.#upload(new Uint32Array(kernel.packArray('sections', sections)))
      const bindings = { sections: { buffer: table }, arena: { buffer }, status: { buffer: status } }
      const batch = new Batch(this.#gpu)
      batch.dispatchGroups(kernel, bindings, NO_PARAMS, sections.length, 0)
      batch.submit()
      twin(sections, arena, found)
    }
    this.#compare('sums over blocks', buffer, arena)
    this.#compare('status of sums over blocks', status, Uint32Array.from(found))
  }

  #spoil(sections: SectionParams[]): void {
    const section = this.#random.pick(sections)
    const field = this.#random.pick(['kept', 'length_min', 'word_count'] as const)
    section[field] += 1
  }

  /** Apply, fused, revert and blend, one after another on the same weights. */
  async #merge(
    entries: readonly TernaryEntries[],
    arena: Uint32Array,
    arenaBuffer: GPUBuffer,
    streams: readonly Stream[],
  ) {
    const touched = new Set(entries.flatMap(({ indices }) => [...indices]))
    const isDense = this.#random.unit() < 0.3
    const { target, buffer, place } = this.#weights((flat) => isDense || touched.has(flat))
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(this.#shape)
    // Room for all that a stream may displace, halves with a spare for each block.
    const span = weightsOf(this.#shape) + blocks + 1
    const setOf = (set: number[]) => set.map((i, n) => ({ ...streams[i], journal: 3 + n * span }))
    const jobOf = (olds: number[], news: number[]): Job => ({
      rows,
      cols,
      tile_rows: tileRows,
      tile_cols: tileCols,
      across,
      first_block: 0,
      end_block: blocks,
      offset: place.offset,
      row_stride: place.row_stride,
      col_stride: place.col_stride,
      olds: olds.length,
      news: news.length,
      streams: [...setOf(olds), ...setOf(news)],
    })
    const journal = () => {
      const words = new Uint32Array(3 + 4 * span)
      return { words, buffer: this.#upload(words) }
    }
    type Log = ReturnType<typeof journal>
    const none = journal()
    const run = async (
      name: 'apply' | 'revert' | 'fused' | 'blend' | 'dense',
      olds: number[],
      news: number[],
      from: Log,
      to: Log,
    ) => {
      const job = jobOf(olds, news)
      if (name === 'apply') apply(job, target, arena, to.words)
      else if (name === 'revert') revert(job, target, arena, from.words)
      else if (name === 'fused') fused(job, target, arena, from.words, to.words)
      else if (name === 'dense') dense(job, target, arena, from.words, to.words)
      else blend(job, target, arena, from.words, to.words)
      const bindings = {
        weights: { buffer },
        arena: { buffer: arenaBuffer },
        displaced: { buffer: from.buffer },
        journal: { buffer: to.buffer },
      }
      await this.#dispatch(
        name,
        bindings,
        { ...job, streams: job.streams.map((stream) => ({ ...stream, code: { ...stream.code } })) },
        name === 'dense' ? blocks * wordsOfTile(this.#shape, this.#dtype) : blocks,
      )
      this.#compare(`${name} weights`, buffer, target.words)
      if (news.length > 0) this.#compare(`${name} journal`, to.buffer, to.words)
    }
    const [first, second, third] = [journal(), journal(), journal()]
    const original = target.words.slice()
    await run('apply', [], [0], none, first)
    await run('fused', [0], [1], first, second)
    const [fourth, fifth] = [journal(), journal()]
    if (isDense) {
      await run('blend', [1], [2, 4, 5, 3], second, third)
      await run('blend', [2, 4, 5, 3], [4, 1], third, fourth)
      await run('blend', [4, 1], [1], fourth, fifth)
    } else {
      await run('blend', [1], [2, 3, 0], second, third)
      await run('blend', [2, 3, 0], [3, 1], third, fourth)
      await run('blend', [3, 1], [1], fourth, fifth)
    }
    await run('revert', [1], [], fifth, none)
    if (isDense) {
      // Two kernels, one journal: what `dense` displaced, `blend` puts back, and the other way around.
      const [sixth, seventh, eighth, ninth] = [journal(), journal(), journal(), journal()]
      await run('dense', [], [4], none, sixth)
      await run('dense', [4], [5, 4], sixth, seventh)
      await run('blend', [5, 4], [0, 5], seventh, eighth)
      await run('blend', [0, 5], [5], eighth, ninth)
      await run('dense', [5], [], ninth, none)
    }
    this.#compare('weights after all', buffer, original)
  }

  async #unpack(arena: Uint32Array, arenaBuffer: GPUBuffer, streams: readonly Stream[]) {
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(this.#shape)
    const words = new Uint32Array(rows * cols + 3)
    const buffer = this.#upload(words)
    const target = new Target(words, 'float32')
    for (const stream of [streams[0], streams[4], streams[5]]) {
      const job: Job = {
        rows,
        cols,
        tile_rows: tileRows,
        tile_cols: tileCols,
        across,
        first_block: 0,
        end_block: blocks,
        offset: 2,
        row_stride: 1,
        col_stride: rows,
        olds: 0,
        news: 1,
        streams: [stream],
      }
      unpack(job, target, arena)
      const bindings = { weights: { buffer }, arena: { buffer: arenaBuffer } }
      await this.#dispatch(
        'unpack',
        bindings,
        { ...job, streams: [{ ...stream, code: { ...stream.code } }] },
        blocks,
        'float32',
      )
    }
    this.#compare('unpack', buffer, words)
  }

  async #side(arena: Uint32Array, arenaBuffer: GPUBuffer, stream: Stream) {
    const { rows, cols, tileRows, tileCols, across, blocks } = tilingOf(this.#shape)
    const rowFields = Math.ceil(cols / 32) * 32
    const words = new Uint32Array((rows * rowFields) / 16)
    const buffer = this.#upload(words)
    const params = { words: words.length, value: 0xaaaaaaaa }
    fill(params, words)
    await this.#dispatch('fill', { filled: { buffer } }, params, this.#random.integer(1, words.length))
    const job: Job = {
      rows,
      cols,
      tile_rows: tileRows,
      tile_cols: tileCols,
      across,
      first_block: 0,
      end_block: blocks,
      offset: 0,
      row_stride: rowFields,
      col_stride: 1,
      olds: 0,
      news: 1,
      streams: [stream],
    }
    side(job, words, arena)
    const bindings = { fields: { buffer }, arena: { buffer: arenaBuffer } }
    await this.#dispatch(
      'side',
      bindings,
      { ...job, streams: [{ ...stream, code: { ...stream.code } }] },
      blocks,
    )
    this.#compare('fill and side', buffer, words)
  }

  async #dequantize() {
    const random = this.#random
    const { target, buffer, place } = this.#weights(() => false)
    const { rows, cols } = tilingOf(this.#shape)
    const bits = random.pick([2, 4, 8])
    const blockSize = random.pick([16, 32, 48, 128])
    const half = random.pick([0, 1])
    const rowBlocks = Math.ceil(cols / blockSize)
    const at = () => random.integer(0, 3)
    const blocks = {
      rows,
      cols,
      bits,
      block_size: blockSize,
      half,
      zero_points: random.pick([0, 1, 2]),
      quantized_at: at(),
      scales_at: at(),
      zeros_at: at(),
    }
    const float = () => random.integer(0x1000, 0x3000)
    const floats = () =>
      half === 1 ? float() | (float() << 16) : bitsFromHalf(float()) | random.integer(0, 0x1fff)
    const packed = (rows * rowBlocks * blockSize * bits) / 32
    const words = {
      quantized: Uint32Array.from({ length: blocks.quantized_at + packed }, () => random.bits()),
      scales: Uint32Array.from({ length: blocks.scales_at + rows * rowBlocks }, floats),
      zeros: Uint32Array.from({ length: blocks.zeros_at + rows * rowBlocks }, () =>
        blocks.zero_points === 2 ? floats() : random.bits(),
      ),
    }
    dequantize({ place, blocks }, target, words)
    const uploaded = {
      quantized: { buffer: this.#upload(words.quantized) },
      scales: { buffer: this.#upload(words.scales) },
      zeros: { buffer: this.#upload(words.zeros) },
    }
    const params = { place: { ...place }, blocks }
    await this.#dispatch('dequantize', { weights: { buffer }, ...uploaded }, params, packed)
    this.#compare('dequantize', buffer, target.words)

    const positions = (end: number) => Array.from({ length: 8 }, () => random.integer(0, end - 1))
    const gathered = { blocks, rows: positions(rows), cols: positions(cols), first: at() }
    const values = new Float32Array(gathered.first + 8)
    gatherBlocks(gathered, words, values)
    const out = this.#upload(new Uint32Array(values.length))
    await this.#dispatch('gather_blocks', { values: { buffer: out }, ...uploaded }, gathered, 8)
    this.#compare('gather_blocks', out, new Uint32Array(values.buffer))
  }

  /** Expand, gather, save, restore and checksum. */
  async #copy() {
    const random = this.#random
    const { target, buffer, place } = this.#weights(() => false)
    const weights = weightsOf(this.#shape)
    const half = random.pick([0, 1])
    const words = Math.ceil(weights / (half + 1))
    const source = Uint32Array.from({ length: words + 5 }, () => random.bits())
    const params = { place: { ...place }, word: 5, words, first: 0, end: weights, half }
    expand(params, target, source)
    await this.#dispatch(
      'expand',
      { weights: { buffer }, source: { buffer: this.#upload(source) } },
      params,
      words,
    )
    this.#compare('expand', buffer, target.words)

    const saved = new Uint32Array(weights)
    const savedBuffer = this.#upload(saved)
    save({ place, weights }, target, saved)
    const count = Math.ceil(weights / target.perWord)
    await this.#dispatch(
      'save',
      { weights: { buffer }, saved: { buffer: savedBuffer } },
      { place: { ...place }, weights },
      count,
    )
    this.#compare('save', savedBuffer, saved)
    for (let i = 0; i < weights; i++) saved[i] = random.bits()
    this.#gpu.device.queue.writeBuffer(savedBuffer, 0, saved)
    restore({ place, weights }, target, saved)
    await this.#dispatch(
      'restore',
      { weights: { buffer }, saved: { buffer: savedBuffer } },
      { place: { ...place }, weights },
      count,
    )
    this.#compare('restore', buffer, target.words)

    const seed = random.integer(0, 1000)
    const sums = new Uint32Array(2)
    checksum(target.words, seed, sums)
    const sumsBuffer = this.#upload(new Uint32Array(2))
    const bindings = { words: { buffer }, sums: { buffer: sumsBuffer } }
    await this.#dispatch(
      'checksum',
      bindings,
      { words: target.words.length, seed },
      random.integer(1, target.words.length),
      undefined,
    )
    this.#compare('checksum', sumsBuffer, sums)

    const values = new Float32Array(24)
    for (let i = 0; i < weights; i++) target.store(elementOf(place, i), target.rawOf(random.unit()))
    this.#gpu.device.queue.writeBuffer(buffer, 0, target.words as Uint32Array<ArrayBuffer>)
    const elements = Array.from({ length: 8 }, () => elementOf(place, random.integer(0, weights - 1)))
    gather({ elements, first: 8 }, target, values)
    const valuesBuffer = this.#upload(new Uint32Array(24))
    await this.#dispatch(
      'gather',
      { weights: { buffer }, values: { buffer: valuesBuffer } },
      { elements, first: 8 },
      8,
    )
    this.#compare('gather', valuesBuffer, new Uint32Array(values.buffer))
  }

  /** Within rounding: a device may contract and reorder sums. */
  async #lowRank() {
    const random = this.#random
    const { target, buffer, place } = this.#weights(() => true, [0])
    const { rows, cols } = tilingOf(this.#shape)
    const rank = rows * cols > 4000 ? random.integer(0, 3) : random.integer(0, 40)
    const factors = random.floats((rows + cols) * (rank + 1), 0.3)
    const params = {
      rows,
      cols,
      offset: place.offset,
      row_stride: place.row_stride,
      col_stride: place.col_stride,
      rank,
      left: 0,
      right: rows * rank,
      row_scale: (rows + cols) * rank,
      row_group: random.pick([0, 1, 2]),
      col_scale: (rows + cols) * rank + rows,
      col_group: random.pick([0, 1, 3]),
    }
    const factorsBuffer = this.#upload(new Uint32Array(factors.buffer))
    const kernel = await kernelOf(this.#gpu, 'low_rank', this.#dtype)
    const batch = new Batch(this.#gpu)
    batch.dispatchGroups(
      kernel,
      { weights: { buffer }, factors: { buffer: factorsBuffer } },
      params,
      Math.ceil(rows / 16) * Math.ceil(cols / 16),
      0,
    )
    batch.submit()
    lowRank(params, target, factors)
    const tolerance = this.#dtype === 'float32' ? 2e-5 : 2e-3
    this.#check('low_rank', buffer, buffer.size, (words) => {
      const found = new Target(words, this.#dtype)
      let worst = 0
      for (let flat = 0; flat < rows * cols; flat++) {
        const element = elementOf(place, flat)
        const wanted = target.valueOf(target.load(element))
        const error = Math.abs(found.valueOf(found.load(element)) - wanted)
        worst = Math.max(worst, error / Math.max(0.1, Math.abs(wanted)))
      }
      return worst <= tolerance ? undefined : `error ${worst}`
    })
  }

  /** Weights with random content in a random placement: rows or columns, alone or as a part of something wider. */
  #weights(touched: (flat: number) => boolean, meet: readonly number[] = ORDINARY[this.#dtype]) {
    const random = this.#random
    const { rows, cols } = tilingOf(this.#shape)
    const offset = random.pick([0, 0, 1, 5])
    const wide = random.pick([0, 0, 3, 7])
    const place =
      random.unit() < 0.5
        ? { cols, offset, row_stride: cols + wide, col_stride: 1 }
        : { cols, offset, row_stride: 1, col_stride: rows + wide }
    const elements = offset + (rows + wide) * (cols + wide)
    const words = new Uint32Array(Math.ceil(elements / (this.#dtype === 'float16' ? 2 : 1)) + 2)
    for (let i = 0; i < words.length; i++) words[i] = random.bits()
    const target = new Target(words, this.#dtype)
    for (let flat = 0; flat < rows * cols; flat++) {
      const special = random.unit() < 0.2
      const choices = touched(flat) ? meet : SPECIAL[this.#dtype]
      const half = random.integer(0x2400, 0x3400) | (random.integer(0, 1) << 15)
      const ordinary = this.#dtype === 'float16' ? half : bitsFromHalf(half) | random.integer(0, 0x1fff)
      target.store(elementOf(place, flat), special ? random.pick(choices) : ordinary >>> 0)
    }
    return { target, place, buffer: this.#upload(words) }
  }

  async #dispatch(
    name: string,
    bindings: Bindings,
    params: Params,
    invocations: number,
    dtype: TargetDtype | undefined = this.#dtype,
  ) {
    const plain = name === 'checksum' || name === 'fill' || name === 'side'
    const kernel: Kernel = await kernelOf(this.#gpu, name, plain ? undefined : dtype)
    const batch = new Batch(this.#gpu)
    batch.dispatch(kernel, bindings, params, invocations)
    batch.submit()
  }

  #upload(words: Uint32Array<ArrayBuffer>): GPUBuffer {
    const buffer = this.#gpu.device.createBuffer({
      size: words.byteLength,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    })
    this.#gpu.device.queue.writeBuffer(buffer, 0, words)
    this.#buffers.push(buffer)
    return buffer
  }

  #compare(name: string, buffer: GPUBuffer, words: Uint32Array): void {
    const wanted = words.slice()
    const hex = (word: number) => `0x${word.toString(16)}`
    this.#check(name, buffer, wanted.byteLength, (found) => {
      const at = wanted.findIndex((word, i) => word !== found[i])
      return at < 0
        ? undefined
        : `word ${at} of ${wanted.length} is ${hex(found[at])}, not ${hex(wanted[at])}`
    })
  }

  #check(name: string, buffer: GPUBuffer, size: number, wrong: Check['wrong']): void {
    const { device } = this.#gpu
    const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    const encoder = device.createCommandEncoder()
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, size)
    device.queue.submit([encoder.finish()])
    this.#buffers.push(staging)
    this.#checks.push({ name, staging, wrong })
  }
}
