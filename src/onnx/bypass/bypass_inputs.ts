/**
 * The graph inputs that a bypass is fed through.
 *
 * @module
 */
import type { InputDtype } from '../../format/dtype.ts'
import { newInput } from '../proto/nodes.ts'
import type { ModelProto } from '../proto/onnx_pb.ts'
import type { Site } from './site.ts'

/** What a variant has beside the weight of one site. */
export interface SiteBypass {
  /** Ternary deltas, each with a strength of its own. */
  side?: number
  /** A low-rank pair: one graph serves every rank. */
  lowRank?: boolean
  /** A delta in floats. */
  delta?: boolean
  /** Factors of the inputs and of the outputs. */
  inputScale?: boolean
  outputScale?: boolean
  /** Added to the outputs. */
  bias?: boolean
  /** Rows that are looked up instead of the weight's, by all lookups of a pass; what is kept of a pass instead of its own. */
  virtual?: boolean
}

/**
 * What an input is to be fed with. `codes` and `ones`: B and the scales of a MatMulNBits with 2 bits. `strength`: what
 * a code is worth, one number or one for each output. `down` [inputs, rank], `up` [rank, outputs]: the factors of a
 * low-rank pair, `up` times what the pair is worth. `delta`: as the site's float weight would be, [inputs, outputs].
 * `virtual`: [tokens, outputs], of a cache [1, heads, tokens, size of a head].
 */
export type BypassInputKind =
  | 'codes'
  | 'ones'
  | 'strength'
  | 'down'
  | 'up'
  | 'delta'
  | 'inputScale'
  | 'outputScale'
  | 'bias'
  | 'virtual'

/** A graph input that a variant has more than the hoisted graph. */
export interface BypassInput {
  name: string
  kind: BypassInputKind
  dtype: InputDtype
  /** Sizes; −1 is the rank, or the number of virtual tokens, which the feed decides. */
  dims: readonly number[]
  /** All but `ones` belong to a site. */
  site?: string
  /** `codes` and `strength` only: which of the site's ternary deltas they are of. */
  side?: number
}

/** In front of all names that a variant adds to a graph. */
export const PREFIX = 'tritswap'
const RANK = -1

/** Weights of one scale in a 2-bit matrix: what MatMulNBits has its fastest paths for; 16 where it wastes less. */
export function sideBlockSize(inputs: number): number {
  return inputs % 32 === 0 || inputs % 32 > 16 ? 32 : 16
}

/** Quantization blocks of one row of codes. */
export function sideBlocks(inputs: number): number {
  return Math.ceil(inputs / sideBlockSize(inputs))
}

/** Names of the inputs of one site. */
export interface SiteInputs {
  side: { codes: string; ones: string; strength: string }[]
  lowRank?: { down: string; up: string }
  delta?: string
  inputScale?: string
  outputScale?: string
  bias?: string
  virtual?: string
}

/** Declares the inputs of a variant. */
export class BypassInputs {
  readonly all: BypassInput[] = []
  readonly #model: ModelProto
  readonly #names = new Set<string>()

  constructor(model: ModelProto) {
    this.#model = model
  }

  /** The inputs of a site, which its occurrences share. */
  of(site: Site, bypass: SiteBypass): SiteInputs {
    const { key, dtype, inputs, outputs, kernel } = site
    const isConv = site.kind === 'conv'
    // In a convolution the dimension of channels is followed by those of positions.
    const tail = isConv ? (kernel ?? []).slice(1).map(() => 1) : []
    const add = (kind: BypassInputKind, dims: readonly number[], more: Partial<BypassInput> = {}) => {
      const name = `${PREFIX}::${key}::${kind}${more.side ?? ''}`
      return this.#declare({ name, kind, dtype, dims, site: key, ...more })
    }
    const blocks = sideBlocks(inputs)
    const strengths = site.parts.length > 1 ? outputs : 1
    return {
      side: Array.from({ length: bypass.side ?? 0 }, (_, side) => ({
        codes: add('codes', [outputs, blocks, sideBlockSize(inputs) / 4], { side, dtype: 'uint8' }),
        ones: this.#declare({
          name: `${PREFIX}::ones::${outputs}x${blocks}::${dtype}`,
          kind: 'ones',
          dtype,
          dims: [outputs, blocks],
        }),
        strength: add('strength', [strengths], { side }),
      })),
      lowRank: bypass.lowRank
        ? {
            down: add('down', isConv ? [RANK, ...kernel!] : [inputs, RANK]),
            up: add('up', isConv ? [outputs, RANK, ...tail] : [RANK, outputs]),
          }
        : undefined,
      delta: bypass.delta ? add('delta', isConv ? [outputs, ...kernel!] : [inputs, outputs]) : undefined,
      inputScale: bypass.inputScale
        ? add('inputScale', isConv ? [kernel![0], ...tail] : [inputs])
        : undefined,
      outputScale: bypass.outputScale ? add('outputScale', [outputs, ...tail]) : undefined,
      bias: bypass.bias ? add('bias', [outputs, ...tail]) : undefined,
      virtual: bypass.virtual
        ? add('virtual', site.kind === 'cache' ? [1, inputs, RANK, outputs] : [RANK, outputs])
        : undefined,
    }
  }

  #declare(input: BypassInput): string {
    const { name, dtype, dims } = input
    if (this.#names.has(name)) return name
    this.#names.add(name)
    this.all.push(input)
    const sizes = dims.map((size, at) => (size === RANK ? `${name}::${at}` : size))
    this.#model.graph!.input.push(newInput(name, dtype, sizes))
    return name
  }
}
