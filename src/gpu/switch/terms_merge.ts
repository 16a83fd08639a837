import { type NBitsCode, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { type Batch, WORK_LIMIT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { type Kernel, type Params, targetKernels } from '../kernel.ts'
import { shaderConstants } from '../shader_constants.ts'
import { TARGET_MODULES, type TargetDtype } from '../target.ts'
import { termsLayout, vectorWords } from '../terms_form.ts'
import type { OwnForm } from '../weights/own_forms.ts'
import { nbitsParams } from '../weights/params.ts'
import type { TensorChange } from './active_set.ts'
import type { ChangeOfSet } from './delta_jobs.ts'

const { MAX_PAIRS } = shaderConstants('terms_pass', ['MAX_PAIRS'])
/** Entries along that are one word of weights, and entries across of a tile. */
const TILES = {
  float32: shaderConstants(TARGET_MODULES.float32.terms_tile, ['WORD_ALONG', 'TILE_ACROSS']),
  float16: shaderConstants(TARGET_MODULES.float16.terms_tile, ['WORD_ALONG', 'TILE_ACROSS']),
}
/** Tiles that an invocation takes where a CPU plays GPU: what is read along costs as much there as half a tile. */
const SOFTWARE_STRIP = 64
/** Entries across that share a block's scale in `terms_blocks`. */
const BLOCK_ACROSS = 32

type TermsKernels = Record<'terms' | 'terms_blocks', Record<TargetDtype, Kernel>>

/** Adds ternary rank-1 terms to weights: all that a set has for one of them in one pass, 64 at most. */
export class TermsMerge {
  readonly #kernels: TermsKernels
  readonly #strip: number

  /** Compiles the kernels where that has not been done before. @throws {TritswapError} `webgpu`, `device-lost` */
  static async create(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>): Promise<TermsMerge> {
    const kernels = await targetKernels(gpu, ['terms', 'terms_blocks'], dtypes)
    return new TermsMerge(kernels, gpu.adapter.software ? SOFTWARE_STRIP : 1)
  }

  private constructor(kernels: TermsKernels, strip: number) {
    this.#kernels = kernels
    this.#strip = strip
  }

  /**
   * Records the terms of one change.
   * @param form - what the base is made anew from on the way, one that {@link isStreamed} is true of; on top of the weights as
   * they are by default
   */
  record(batch: Batch, arena: GPUBuffer, to: ChangeOfSet, form?: OwnForm): void {
    const { placement } = to.change
    const rowsAlong = form === undefined ? placement.rowStride < placement.colStride : rowsAreAlong(form.code)
    const pairs = pairsOf(to, rowsAlong)
    for (let first = 0; first < pairs.length; first += MAX_PAIRS) {
      const some = pairs.slice(first, first + MAX_PAIRS)
      this.#dispatch(batch, arena, to, rowsAlong, some, first === 0 ? form : undefined)
    }
  }

  #dispatch(
    batch: Batch,
    arena: GPUBuffer,
    { change: { plan, placement } }: ChangeOfSet,
    rowsAlong: boolean,
    pair: readonly Params[],
    form: OwnForm | undefined,
  ): void {
    const { buffer, dtype, offset, rowStride, colStride } = placement
    const { rows, cols } = termsLayout(plan.terms[0].tensor)
    const [along, across] = rowsAlong ? [rows, cols] : [cols, rows]
    const [alongStep, acrossStep] = rowsAlong ? [rowStride, colStride] : [colStride, rowStride]
    const { WORD_ALONG, TILE_ACROSS } = TILES[dtype]
    const wordsAlong = Math.ceil(along / WORD_ALONG)
    const tilesAcross = Math.ceil(across / TILE_ACROSS)
    const strip = Math.min(this.#strip, tilesAcross)
    const strips = wordsAlong * Math.ceil(tilesAcross / strip)
    const workOfStrip = WORD_ALONG * TILE_ACROSS * strip * 2 * pair.length
    const step = Math.max(1, Math.floor(WORK_LIMIT / workOfStrip))
    const arenaWords = { buffer: arena }
    for (let first = 0; first < strips; first += step) {
      const end = Math.min(strips, first + step)
      batch.dispatch(
        this.#kernels[form === undefined ? 'terms' : 'terms_blocks'][dtype],
        { weights: { buffer }, arena: arenaWords, section: form ? { buffer: form.buffer } : arenaWords },
        {
          along,
          across,
          offset,
          along_step: alongStep,
          across_step: acrossStep,
          across_words: vectorWords(across),
          words_along: wordsAlong,
          tiles_across: tilesAcross,
          strip,
          first_strip: first,
          end_strip: end,
          aligned: areWords(offset, alongStep, acrossStep) ? 1 : 0,
          pairs: pair.length,
          pair,
          ...(form && { blocks: blocksParams(form) }),
        },
        end - first,
        (end - first) * workOfStrip,
      )
    }
  }
}

/**
 * Whether the base's own form can be read in the pass that adds terms; else the base is made first.
 */
export function isStreamed({ plan, placement }: TensorChange, { code, shape }: OwnForm): boolean {
  const terms = plan.terms.reduce((sum, { tensor }) => sum + termsLayout(tensor).terms, 0)
  const { bits, blockSize, zeroPoints } = code
  const { rows, cols } = nbitsLayout(shape, code)
  // Sums of other products are rounded differently where a device fuses the two.
  const isExact = code.dtype === 'f16' && zeroPoints !== 'float'
  const isWhole = cols % BLOCK_ACROSS === 0 && blockSize % BLOCK_ACROSS === 0
  const [along, across] = rowsAreAlong(code)
    ? [placement.rowStride, placement.colStride]
    : [placement.colStride, placement.rowStride]
  const isAligned =
    placement.dtype === 'float32' || (rows % 2 === 0 && areWords(placement.offset, along, across))
  return terms <= 2 && bits === 4 && isExact && isWhole && isAligned
}

/** A row of the quantized matrix is a row of the tensor, and blocks run across. */
function rowsAreAlong({ transposed }: NBitsCode): boolean {
  return !transposed
}

/** Whether pairs of neighbours along are words of f16 weights. */
function areWords(offset: number, alongStep: number, acrossStep: number): boolean {
  return alongStep === 1 && offset % 2 === 0 && acrossStep % 2 === 0
}

/** All terms of a change, in the order of the set, as `Pair` of shaders/shared/terms_pass.wgsl. */
function pairsOf({ set, change: { plan } }: ChangeOfSet, rowsAlong: boolean): Params[] {
  const terms = plan.terms.flatMap(({ entry, index, tensor, weight }) => {
    const { words } = set.entries[entry].expert.spanOf(index)
    const { rows, cols, terms: count, x, y } = termsLayout(tensor)
    return Array.from({ length: count }, (_, t) => {
      const xWords = words + x + t * vectorWords(rows)
      const yWords = words + y + t * vectorWords(cols)
      const [along, across] = rowsAlong ? [xWords, yWords] : [yWords, xWords]
      return { scale: words + t, weight, along, across }
    })
  })
  return Array.from({ length: Math.ceil(terms.length / 2) }, (_, k): Params => {
    const first = terms[2 * k]
    const second = terms[2 * k + 1] ?? { ...first, weight: 0 }
    return {
      scales: [first.scale, second.scale],
      weights: [first.weight, second.weight],
      along: [first.along, second.along],
      across: [first.across, second.across],
    }
  })
}

/** `Blocks` of shaders/shared/terms_pass.wgsl. */
function blocksParams({ shape, code, offset }: OwnForm): Params {
  const { perRow } = nbitsLayout(shape, code)
  const { zero_points, quantized_at, scales_at, zeros_at } = nbitsParams(shape, code, offset / 4)
  return {
    row_words: (perRow * code.blockSize * code.bits) / 32,
    per_row: perRow,
    block_size: code.blockSize,
    zero_points,
    quantized_at,
    scales_at,
    zeros_at,
  }
}
