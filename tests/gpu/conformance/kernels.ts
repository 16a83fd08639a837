/**
 * How to make a random case for each kernel, and its twin: one entry a kernel, by the name of its WGSL file.
 *
 * @module
 */
import { fieldAt, wordsFor } from '../../../src/format/bits.ts'
import { bitsFromHalf } from '../../../src/format/float16.ts'
import { tilingOf } from '../../../src/format/index.ts'
import { forEachStep } from '../../../src/format/steps.ts'
import { indexLength } from '../../../src/gpu/experts/resident_expert.ts'
import type { SectionParams } from '../../../src/gpu/experts/sections.ts'
import { wordsOfTile } from '../../../src/gpu/job.ts'
import type { Params } from '../../../src/gpu/kernel.ts'
import { shaderConstants } from '../../../src/gpu/shader_constants.ts'
import { packSteps, stepsLayout } from '../../../src/gpu/steps_form.ts'
import { TARGET_MODULES, type TargetDtype } from '../../../src/gpu/target.ts'
import { type Random, randomEntries } from '../random.ts'
import { add } from '../twins/add.ts'
import { apply } from '../twins/apply.ts'
import { blend } from '../twins/blend.ts'
import { checksum } from '../twins/checksum.ts'
import { dense } from '../twins/dense.ts'
import { dequantize } from '../twins/dequantize.ts'
import { expand } from '../twins/expand.ts'
import { fill } from '../twins/fill.ts'
import { fused } from '../twins/fused.ts'
import { gather } from '../twins/gather.ts'
import { gatherNBits } from '../twins/gather_nbits.ts'
import { indexBlocks } from '../twins/index_blocks.ts'
import { indexCounts } from '../twins/index_counts.ts'
import { indexOffsets } from '../twins/index_offsets.ts'
import { DENSE_F16, type Job, STEPS, type Stream, TERMS, TERNARY } from '../twins/job.ts'
import { INDEX_WORDS, type Lanes } from '../twins/lanes.ts'
import { lowRank } from '../twins/low_rank.ts'
import { ZERO_POINTS } from '../twins/nbits.ts'
import { pair } from '../twins/pair.ts'
import { elementOf } from '../twins/placement.ts'
import { revert } from '../twins/revert.ts'
import { save } from '../twins/save.ts'
import { side } from '../twins/side.ts'
import { NOT_JOURNALED, steps, UNITS } from '../twins/steps.ts'
import { Target } from '../twins/target.ts'
import { type Pair, type TermsJob, terms } from '../twins/terms.ts'
import { termsBlocks } from '../twins/terms_blocks.ts'
import { unpack } from '../twins/unpack.ts'
import type { Compare, KernelCase, MakeCase } from './run.ts'
import type { Words, World } from './world.ts'

const { TILE } = shaderConstants('low_rank', ['TILE'])
const TERMS_TILES = {
  float32: shaderConstants(TARGET_MODULES.float32.terms_tile, ['WORD_ALONG', 'TILE_ACROSS']),
  float16: shaderConstants(TARGET_MODULES.float16.terms_tile, ['WORD_ALONG', 'TILE_ACROSS']),
}
/** Code 2 in all 16 fields of a word, which is zero in MatMulNBits of 2 bits: what `side` starts from. */
const ZERO_CODES = 0xaaaaaaaa
const EXACT = undefined

/** A kernel that goes from one set of streams to another, by its twin. */
type Merge = (job: Job, target: Target, arena: Words, displaced: Words, journal: Words) => void

/**
 * A case for a merge kernel. The twin of `blend`, or of `dense` where both apply, has put `reverted` on the weights: what
 * one kernel journals, each of the others can revert.
 */
function mergeCase(
  merge: Merge,
  world: World,
  random: Random,
  reverted: readonly Stream[],
  applied: readonly Stream[],
  run: KernelCase['run'] = { blocks: world.blocks },
): KernelCase {
  const streams = [...reverted, ...applied]
  const isTouched = streams.some(({ codec }) => codec !== TERNARY)
    ? () => true
    : (flat: number) => world.touched.has(flat)
  const { words, target, placement } = world.target(random, isTouched)
  const original = words.slice()
  const displaced = new Uint32Array(world.journalWords(reverted.length))
  const unused = new Uint32Array()
  const allDense = reverted.every(({ codec }) => codec !== TERNARY)
  const apply = allDense && random.unit() < 0.5 ? dense : blend
  apply(world.job(placement, [], reverted), target, world.arena, unused, displaced)
  const params = world.job(placement, reverted, applied)
  const journal = new Uint32Array(world.journalWords(applied.length))
  return {
    params,
    buffers: { weights: words, arena: world.arena, displaced, journal },
    run,
    twin(buffers) {
      const changed = new Target(buffers.weights, world.dtype)
      merge(params, changed, buffers.arena, buffers.displaced, buffers.journal)
      // Back to the base is back to its bits, whatever was on it.
      if (applied.length === 0 && buffers.weights.some((word, i) => word !== original[i]))
        throw new Error('the twin does not revert bit for bit')
    },
    outputs: applied.length > 0 ? { weights: EXACT, journal: EXACT } : { weights: EXACT },
  }
}

const ternaryOf = (world: World, random: Random) => random.pick(world.streams.slice(0, 4))
const denseOf = (world: World, random: Random, sizes: readonly number[]) =>
  Array.from({ length: random.pick(sizes) }, () => random.pick(world.streams.slice(4)))

/** Sections as a hostile file may have them: one number is off. */
function spoilt(sections: readonly SectionParams[], random: Random): SectionParams[] {
  const copies = sections.map((section) => ({ ...section }))
  random.pick(copies)[random.pick(['kept', 'length_min', 'word_count'] as const)] += 1
  return copies
}

/** Many more blocks than a test can encode, for the sums over blocks: some fill their streams, some are too long. */
function manyBlocks(random: Random, lanes: Lanes): { sections: SectionParams[]; arena: Words } {
  let at = 2
  const numbers = () => random.pick([1, 63, 64, 65, 127, 129, random.integer(1, 700)])
  const unused = { m: 1, low: 0, cut: 0, rows: 1, cols: 1, tile_rows: 1, tile_cols: 1, across: 1 }
  const sections = Array.from({ length: 3 }, (): SectionParams => {
    const [blocks, bits] = [numbers(), random.integer(0, 14)]
    const words = at
    const index = words + wordsFor(blocks * bits) + 1
    at = index + indexLength(blocks, INDEX_WORDS[lanes])
    // Some sums are past 2^32.
    const lengthMin = random.pick([0, 3, 2 ** 14, 2 ** 26])
    const sums = { length_bits: bits, length_min: lengthMin, word_count: 0, kept: 0, first_block: 0 }
    return { ...unused, ...sums, words, index, blocks }
  })
  const arena = Uint32Array.from({ length: at }, () => random.bits())
  for (const section of sections) {
    const lengths = arena.subarray(section.words)
    let bits = 0
    for (let block = 0; block < section.blocks; block++) {
      bits += section.length_min + fieldAt(lengths, block, section.length_bits)
      // What `index_blocks` may leave.
      arena[section.index + INDEX_WORDS[lanes] * block + 1] = random.pick([0, 1, 4096, random.bits()])
      section.kept += arena[section.index + INDEX_WORDS[lanes] * block + 1]
    }
    section.word_count =
      wordsFor(section.blocks * section.length_bits) + (wordsFor(bits) % 2 ** 27) + random.pick([0, 0, 1])
    section.kept = (section.kept + random.pick([0, 0, 1])) % 2 ** 32
  }
  return { sections, arena }
}

const noFailure = () => Uint32Array.of(0, 0xffffffff)

type IndexPass = (sections: readonly SectionParams[], arena: Words, status: Words, lanes: Lanes) => void

/** A pass over sums of blocks; `before` are the passes that run before it. */
function sumsCase(pass: IndexPass, before: readonly IndexPass[], world: World, random: Random): KernelCase {
  const isLong = random.unit() < 0.5
  const own = isLong
    ? manyBlocks(random, world.lanes)
    : { sections: world.sections, arena: world.unindexed.slice() }
  const sections = !isLong && random.unit() < 0.25 ? spoilt(own.sections, random) : own.sections
  if (!isLong) for (const earlier of before) earlier(own.sections, own.arena, noFailure(), world.lanes)
  return {
    params: {},
    buffers: { sections, arena: own.arena, status: noFailure() },
    run: { groups: sections.length },
    twin: ({ arena, status }) => pass(sections, arena, status, world.lanes),
    outputs: { arena: EXACT, status: EXACT },
  }
}

function quantized({ shape }: World, random: Random) {
  const { rows, cols } = tilingOf(shape)
  const bits = random.pick([2, 4, 8])
  const blockSize = random.pick([16, 32, 48, 128])
  const zeroPoints = random.pick(ZERO_POINTS)
  // Minimums come with scales in f16.
  const half = zeroPoints === ZERO_POINTS[3] ? 1 : random.pick([0, 1])
  const scales = rows * Math.ceil(cols / blockSize)
  const at = () => random.integer(0, 3)
  const nbits = {
    rows,
    cols,
    bits,
    block_size: blockSize,
    half,
    zero_points: zeroPoints,
    quantized_at: at(),
    scales_at: at(),
    zeros_at: at(),
  }
  const float = () => random.integer(0x1000, 0x3000)
  const floats = () =>
    half === 1 ? float() | (float() << 16) : bitsFromHalf(float()) | random.integer(0, 0x1fff)
  const packed = (scales * blockSize * bits) / 32
  const zero = zeroPoints === ZERO_POINTS[2] || zeroPoints === ZERO_POINTS[3] ? floats : () => random.bits()
  const buffers = {
    quantized: Uint32Array.from({ length: nbits.quantized_at + packed }, () => random.bits()),
    scales: Uint32Array.from({ length: nbits.scales_at + scales }, floats),
    zeros: Uint32Array.from({ length: nbits.zeros_at + scales }, zero),
  }
  return { nbits, blocks: scales, buffers }
}

/** Scales of `count` terms and their vectors of these lengths in an arena, among other things. */
function termsArena(random: Random, count: number, lengths: readonly number[]) {
  const scales = 3
  let at = scales + count
  const vectors = lengths.map((length) => {
    const first = at
    at += count * Math.ceil(length / 16)
    return first
  })
  // Two bits that are no entry are -2 for the kernel and its twin.
  const arena = Uint32Array.from({ length: at + 2 }, () => random.bits())
  arena.set(new Uint32Array(random.floats(count, 0.3).buffer), scales)
  return { arena, scales, vectors }
}

/** A job of `terms`. @param pairs - of terms; one of the last may be missing */
function termsJob(
  random: Random,
  dtype: TargetDtype,
  pairs: number,
  [along, across]: readonly { entries: number; step: number }[],
  offset: number,
) {
  const count = 2 * pairs - random.integer(0, 1)
  const { arena, scales, vectors } = termsArena(random, count, [along.entries, across.entries])
  const [alongWords, acrossWords] = [along, across].map(({ entries }) => Math.ceil(entries / 16))
  const weight = random.pick([1, 0.5, -0.25])
  const pair = Array.from({ length: pairs }, (_, k): Pair => {
    const [first, second] = [2 * k, Math.min(2 * k + 1, count - 1)]
    return {
      scales: [scales + first, scales + second],
      weights: [weight, second === first ? 0 : weight],
      along: [vectors[0] + first * alongWords, vectors[0] + second * alongWords],
      across: [vectors[1] + first * acrossWords, vectors[1] + second * acrossWords],
    }
  })
  const tile = TERMS_TILES[dtype]
  const words_along = Math.ceil(along.entries / tile.WORD_ALONG)
  const tiles_across = Math.ceil(across.entries / tile.TILE_ACROSS)
  const strip = random.integer(1, tiles_across)
  const aligned = along.step === 1 && offset % 2 === 0 && across.step % 2 === 0
  const job: TermsJob & Params & { end_strip: number } = {
    along: along.entries,
    across: across.entries,
    offset,
    along_step: along.step,
    across_step: across.step,
    across_words: acrossWords,
    words_along,
    tiles_across,
    strip,
    first_strip: 0,
    end_strip: words_along * Math.ceil(tiles_across / strip),
    aligned: aligned ? 1 : 0,
    pairs,
    pair,
  }
  return { job, arena }
}

/** A stream of random steps of each weight of a random part of a world, among other things in an arena of its own. */
function stepStreams(world: World, random: Random) {
  const [code, unit] = random.pick([...UNITS])
  const { indices } = randomEntries(world.weights, random.pick([0.001, 0.05, 0.5, 1]), random)
  const far = () => (unit === 'f32' ? random.bits() | 1 : (random.bits() << 16) >> 16 || 1)
  const places = Uint32Array.from(indices)
  const all = {
    places,
    steps: Int32Array.from(places, () => random.pick([1, -1, 1, -1, 2, -3, random.integer(-90, -1), far()])),
  }
  const form = { kept: places.length, unit }
  const packed = packSteps(world.shape, form, all)
  const words = 3
  const arena = Uint32Array.from({ length: words + packed.length + 2 }, () => random.bits())
  arena.set(packed, words)
  const index = words + stepsLayout(world.shape, form).index
  const m = unit === 'f32' ? 2 : 1
  const stream: Stream = { code: { words, m, low: code, cut: 0 }, index, codec: STEPS, value: 1, journal: 0 }
  const touched = new Set<number>()
  forEachStep(world.shape, all, (flat) => touched.add(flat))
  return { streams: [stream], arena, touched }
}

/** What rounding may do to values, relative to those over 0.1. */
const ROUNDING: Readonly<Record<TargetDtype, number>> = { float32: 2e-5, float16: 2e-3 }

/**
 * Every word the same, or its values within rounding: a device may contract sums, and WGSL leaves it the sign of zeros. What
 * lies between the weights has random bits, which only stay the same.
 */
function wordsWithinRounding(dtype: TargetDtype): Compare {
  const perWord = dtype === 'float32' ? 1 : 2
  return (found, wanted) => {
    const [a, b] = [new Target(found, dtype), new Target(wanted, dtype)]
    const at = wanted.findIndex((word, i) => {
      if (word === found[i]) return false
      for (let element = perWord * i; element < perWord * (i + 1); element++) {
        if (a.load(element) === b.load(element)) continue
        const value = b.valueOf(b.load(element))
        const other = a.valueOf(a.load(element))
        if (Number.isNaN(value) && Number.isNaN(other)) continue
        const error = Math.abs(other - value)
        if (!(error <= ROUNDING[dtype] * Math.max(0.1, Math.abs(value)))) return true
      }
      return false
    })
    return at < 0 ? undefined : `word ${at} is 0x${found[at].toString(16)}, not 0x${wanted[at].toString(16)}`
  }
}

/** Equal within rounding: a device may contract and reorder sums. */
function withinRounding({ dtype, weights }: World, placement: Parameters<typeof elementOf>[0]): Compare {
  const tolerance = ROUNDING[dtype]
  return (found, wanted) => {
    const [a, b] = [new Target(found, dtype), new Target(wanted, dtype)]
    let worst = 0
    for (let flat = 0; flat < weights; flat++) {
      const element = elementOf(placement, flat)
      const value = b.valueOf(b.load(element))
      const error = Math.abs(a.valueOf(a.load(element)) - value)
      worst = Math.max(worst, error / Math.max(0.1, Math.abs(value)))
    }
    return worst <= tolerance ? undefined : `error ${worst}`
  }
}

export const KERNELS: Readonly<Record<string, MakeCase>> = {
  add(world, random) {
    const { words, placement } = world.target(random, () => true)
    const { rows, cols } = tilingOf(world.shape)
    const { offset, row_stride, col_stride } = placement
    const swapped = random.unit() < 0.5
    const dense = denseOf(world, random, [1, 2, 8])
    const params = {
      placement: swapped ? { cols: rows, offset, row_stride: col_stride, col_stride: row_stride } : placement,
      weights: world.weights,
      row_values: swapped ? 1 : cols,
      col_values: swapped ? cols : 1,
      deltas: dense.length,
      delta: dense.map(({ code, codec, value }) => ({
        words: code.words,
        half: codec === DENSE_F16 ? 1 : 0,
        weight: value,
      })),
    }
    return {
      params: { ...params, placement: { ...params.placement } },
      buffers: { weights: words, arena: world.arena },
      run: { invocations: world.weights },
      twin: ({ weights, arena }) => add(params, new Target(weights, world.dtype), arena),
      outputs: { weights: EXACT },
    }
  },

  apply: (world, random) =>
    mergeCase(
      (job, target, arena, _, journal) => apply(job, target, arena, journal),
      world,
      random,
      [],
      [ternaryOf(world, random)],
    ),

  blend(world, random) {
    const some = random.unit() < 0.3 ? world.streams : world.streams.slice(0, 4)
    const set = (sizes: readonly number[]) =>
      Array.from({ length: random.pick(sizes) }, () => random.pick(some))
    const reverted = set([0, 1, 2, 3, 4, 8])
    return mergeCase(blend, world, random, reverted, set(reverted.length === 0 ? [2, 8] : [0, 1, 2, 3, 4]))
  },

  checksum(_, random) {
    const words = Uint32Array.from({ length: random.integer(1, 10_000) }, () => random.bits())
    const seed = random.integer(0, 1000)
    return {
      params: { words: words.length, seed },
      buffers: { words, sums: new Uint32Array(2) },
      run: { invocations: random.integer(1, words.length) },
      twin: (buffers) => checksum(buffers.words, seed, buffers.sums),
      outputs: { sums: EXACT },
    }
  },

  dense(world, random) {
    const reverted = denseOf(world, random, [0, 1, 2])
    const applied = denseOf(world, random, reverted.length === 0 ? [1, 2] : [0, 1, 3])
    const invocations = world.blocks * wordsOfTile(world.shape, world.dtype)
    return mergeCase(dense, world, random, reverted, applied, { invocations })
  },

  dequantize(world, random) {
    const { words, placement } = world.target(random, () => false)
    const { nbits, blocks, buffers } = quantized(world, random)
    return {
      params: { placement: { ...placement }, nbits },
      buffers: { weights: words, ...buffers },
      run: { invocations: blocks },
      twin: ({ weights }) => dequantize({ placement, nbits }, new Target(weights, world.dtype), buffers),
      outputs: { weights: EXACT },
    }
  },

  expand(world, random) {
    const { words, placement } = world.target(random, () => false)
    const half = random.pick([0, 1])
    const count = Math.ceil(world.weights / (half + 1))
    const source = Uint32Array.from({ length: count + 5 }, () => random.bits())
    const common = { word: 5, words: count, first: 0, end: world.weights, half }
    return {
      params: { placement: { ...placement }, ...common },
      buffers: { weights: words, source },
      run: { invocations: count },
      twin: ({ weights }) => expand({ placement, ...common }, new Target(weights, world.dtype), source),
      outputs: { weights: EXACT },
    }
  },

  fill(_, random) {
    const filled = new Uint32Array(random.integer(1, 10_000))
    const params = { words: random.integer(1, filled.length), value: random.bits() }
    return {
      params,
      buffers: { filled },
      run: { invocations: random.integer(1, filled.length) },
      twin: (buffers) => fill(params, buffers.filled),
      outputs: { filled: EXACT },
    }
  },

  fused: (world, random) =>
    mergeCase(fused, world, random, [ternaryOf(world, random)], [ternaryOf(world, random)]),

  gather(world, random) {
    const { words, placement } = world.target(random, () => true)
    const element = () => elementOf(placement, random.integer(0, world.weights - 1))
    const params = { elements: Array.from({ length: 8 }, element), first: 8 }
    return {
      params,
      buffers: { weights: words, values: new Uint32Array(24) },
      run: { invocations: 8 },
      twin: ({ weights, values }) =>
        gather(params, new Target(weights, world.dtype), new Float32Array(values.buffer)),
      outputs: { values: EXACT },
    }
  },

  gather_nbits(world, random) {
    const { nbits, buffers } = quantized(world, random)
    const positions = (end: number) => Array.from({ length: 8 }, () => random.integer(0, end - 1))
    const params = {
      nbits,
      rows: positions(nbits.rows),
      cols: positions(nbits.cols),
      first: random.integer(0, 3),
    }
    return {
      params,
      buffers: { ...buffers, values: new Uint32Array(params.first + 8) },
      run: { invocations: 8 },
      twin: ({ values }) => gatherNBits(params, buffers, new Float32Array(values.buffer)),
      outputs: { values: EXACT },
    }
  },

  index_blocks(world, random) {
    const { sections } = world
    const arena = world.unindexed.slice()
    indexOffsets(sections, arena, noFailure(), world.lanes)
    // One bit of a stream flipped: the twin says whether it is still sound.
    if (random.unit() < 0.25) {
      const { words, word_count } = random.pick(sections)
      if (word_count > 0) arena[words + random.integer(0, word_count - 1)] ^= 1 << random.integer(0, 31)
    }
    const blocks = world.blocks * sections.length
    let isSound = false
    // After a failure, which blocks the kernel still walks depends on its timing.
    const ifSound: Compare = (found, wanted) =>
      isSound && wanted.some((word, i) => word !== found[i]) ? 'differs' : undefined
    return {
      params: { first_block: 0, end_block: blocks },
      buffers: { sections, arena, status: noFailure() },
      run: { invocations: blocks },
      twin(buffers) {
        indexBlocks(sections, buffers.arena, buffers.status, world.lanes)
        isSound = buffers.status[0] === 0
      },
      outputs: {
        arena: ifSound,
        status: ([found], [wanted]) => (found === wanted ? undefined : `${found}, not ${wanted}`),
      },
    }
  },

  index_counts: (world, random) => sumsCase(indexCounts, [indexOffsets, indexBlocks], world, random),

  index_offsets: (world, random) => sumsCase(indexOffsets, [], world, random),

  low_rank(world, random) {
    const { words, placement } = world.target(random, () => true, [0])
    // Of a long vector a part will do: workgroups with barriers are slow on software adapters.
    const [rows, cols] = [tilingOf(world.shape).rows, tilingOf(world.shape).cols].map((n) => Math.min(n, 150))
    const rank = rows * cols > 4000 ? random.integer(0, 3) : random.integer(0, 40)
    const factors = random.floats((rows + cols) * (rank + 1), 0.3)
    const tiles = Math.ceil(rows / TILE) * Math.ceil(cols / TILE)
    const first_tile = random.integer(0, tiles - 1)
    const params = {
      rows,
      cols,
      offset: placement.offset,
      row_stride: placement.row_stride,
      col_stride: placement.col_stride,
      rank,
      first_tile: random.pick([0, first_tile]),
      end_tile: random.pick([tiles, random.integer(first_tile + 1, tiles)]),
      left: 0,
      right: rows * rank,
      row_scale: (rows + cols) * rank,
      row_group: random.pick([0, 1, 2]),
      col_scale: (rows + cols) * rank + rows,
      col_group: random.pick([0, 1, 3]),
    }
    return {
      params,
      buffers: { weights: words, factors: new Uint32Array(factors.buffer) },
      run: { groups: Math.ceil(rows / TILE) * Math.ceil(cols / TILE) },
      twin: ({ weights }) => lowRank(params, new Target(weights, world.dtype), factors),
      outputs: { weights: withinRounding(world, placement) },
    }
  },

  pair(world, random) {
    const set = (sizes: readonly number[]) =>
      Array.from({ length: random.pick(sizes) }, () => ternaryOf(world, random))
    const reverted = set([0, 0, 1, 2, 3, 8])
    return mergeCase(pair, world, random, reverted, set(reverted.length === 0 ? [1, 2, 2] : [0, 1, 2, 2]))
  },

  revert: (world, random) => mergeCase(revert, world, random, [ternaryOf(world, random)], []),

  save(world, random) {
    const { words, target, placement } = world.target(random, () => false)
    const { weights } = world
    const half = target.half ? 1 : random.pick([0, 1])
    return {
      params: { placement: { ...placement }, weights, half },
      buffers: { weights: words, saved: new Uint32Array(weights) },
      run: { invocations: Math.ceil(weights / (1 + half)) },
      twin: (buffers) =>
        save({ placement, weights, half }, new Target(buffers.weights, world.dtype), buffers.saved),
      outputs: { saved: EXACT },
    }
  },

  side(world, random) {
    const { rows, cols } = tilingOf(world.shape)
    const rowFields = Math.ceil(cols / 32) * 32
    const fields = new Uint32Array((rows * rowFields) / 16).fill(ZERO_CODES)
    const placement = { offset: 0, row_stride: rowFields, col_stride: 1 }
    const params = world.job(placement, [], [ternaryOf(world, random)])
    return {
      params,
      buffers: { fields, arena: world.arena },
      run: { blocks: world.blocks },
      twin: (buffers) => side(params, buffers.fields, buffers.arena),
      outputs: { fields: EXACT },
    }
  },

  steps(world, random) {
    const { streams, arena, touched } = stepStreams(world, random)
    const { words, target, placement } = world.target(random, (flat) => touched.has(flat))
    const original = words.slice()
    const pick = (sizes: readonly number[]) => streams.slice(0, random.pick(sizes))
    const reverted = pick([0, 1])
    const applied = reverted.length === 0 ? pick([1]) : pick([0, 1])
    const displaced = new Uint32Array(world.journalWords(1))
    const before = world.job(placement, [], reverted)
    steps(before, target, arena, new Uint32Array(), displaced)
    // A share of a step is exact in f32 for these, whether a device fuses product and sum or not.
    const share = random.pick([1, 1, 0.5])
    const params = world.job(
      placement,
      reverted,
      applied.map((stream) => ({ ...stream, value: share })),
    )
    const isKept = random.unit() < 0.7
    if (!isKept) for (const stream of params.streams.slice(reverted.length)) stream.journal = NOT_JOURNALED
    return {
      params,
      buffers: { weights: words, arena, displaced, journal: new Uint32Array(world.journalWords(1)) },
      run: { invocations: world.blocks },
      twin(buffers) {
        const changed = new Target(buffers.weights, world.dtype)
        steps(params, changed, buffers.arena, buffers.displaced, buffers.journal)
        if (applied.length === 0 && buffers.weights.some((word, i) => word !== original[i]))
          throw new Error('the twin does not revert bit for bit')
      },
      outputs: { weights: share === 1 ? EXACT : wordsWithinRounding(world.dtype), journal: EXACT },
    }
  },

  terms(world, random) {
    const { words, placement } = world.target(random, () => true)
    const { rows, cols } = tilingOf(world.shape)
    const { row_stride, col_stride } = placement
    // Along is what is contiguous in memory.
    const sides = [
      { entries: rows, step: row_stride },
      { entries: cols, step: col_stride },
    ].sort((a, b) => a.step - b.step)
    const { job, arena } = termsJob(random, world.dtype, random.integer(1, 4), sides, placement.offset)
    return {
      params: job,
      buffers: { weights: words, arena, section: new Uint32Array(4) },
      run: { invocations: job.end_strip },
      twin: (buffers) => terms(job, new Target(buffers.weights, world.dtype), buffers.arena),
      outputs: { weights: wordsWithinRounding(world.dtype) },
    }
  },

  terms_blocks({ dtype }, random) {
    const rows = 2 * random.integer(1, 40)
    const cols = 32 * random.integer(1, 5)
    const wide = random.pick([0, 0, 2, 6])
    const offset = random.pick([0, 4, dtype === 'float16' ? 2 : 3])
    const sides = [
      { entries: rows, step: 1 },
      { entries: cols, step: rows + wide },
    ]
    const { job, arena } = termsJob(random, dtype, 1, sides, offset)
    const zeroPoints = random.pick(ZERO_POINTS.filter((_, i) => i !== 2))
    const nbits = { rows, cols, bits: 4, block_size: random.pick([32, 64]), half: 1, zero_points: zeroPoints }
    const perRow = Math.ceil(cols / nbits.block_size)
    const row_words = (perRow * nbits.block_size) / 8
    const quantized_at = random.integer(0, 3)
    const scales_at = quantized_at + rows * row_words
    const at = { quantized_at, scales_at, zeros_at: scales_at + rows * perRow }
    const section = Uint32Array.from({ length: at.zeros_at + rows * perRow + 1 }, () => random.bits())
    const float = () => random.integer(0x1000, 0x3000) | (random.integer(0, 1) << 15)
    const isFloat = zeroPoints === ZERO_POINTS[3]
    for (let i = 0; i < rows * perRow; i++) {
      section[at.scales_at + i] = float() | (float() << 16)
      if (isFloat) section[at.zeros_at + i] = float() | (float() << 16)
    }
    const blocks = {
      row_words,
      per_row: perRow,
      block_size: nbits.block_size,
      zero_points: zeroPoints,
      ...at,
    }
    const length = offset + (rows + wide) * cols + 2
    const weights = Uint32Array.from({ length: dtype === 'float16' ? Math.ceil(length / 2) : length }, () =>
      random.bits(),
    )
    return {
      params: { ...job, blocks },
      buffers: { weights, arena, section },
      run: { invocations: job.end_strip },
      twin: (buffers) =>
        termsBlocks(
          job,
          { ...nbits, ...at },
          new Target(buffers.weights, dtype),
          buffers.arena,
          buffers.section,
        ),
      outputs: { weights: wordsWithinRounding(dtype) },
    }
  },

  unpack(world, random) {
    const { words, placement } = world.target(random, () => true)
    const isTerms = random.unit() < 0.3
    const { rows, cols } = tilingOf(world.shape)
    const own = isTerms ? termsArena(random, rows, [cols]) : undefined
    const code = own && { words: own.vectors[0], m: cols, low: own.scales, cut: random.pick([0, 1]) }
    const stream = code && { code, index: 0, codec: TERMS, value: random.pick([1, 0.5, -0.25]), journal: 0 }
    const params = world.job(placement, [], [stream ?? random.pick(world.streams)])
    return {
      params,
      buffers: { weights: words, arena: own?.arena ?? world.arena },
      run: { blocks: world.blocks },
      twin: ({ weights, arena }) => unpack(params, new Target(weights, world.dtype), arena),
      outputs: { weights: EXACT },
    }
  },
}
