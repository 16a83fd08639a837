/**
 * Graphs with room for experts beside the weights: from one hoisted graph, variants with side paths, low-rank paths,
 * scales and biases at some of its sites. What fills the room comes in as graph inputs; a graph without any is the
 * hoisted graph itself.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import type { HoistedInput } from '../../format/index.ts'
import { parseModel, serializeModel } from '../proto/model.ts'
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type ModelProto,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TensorProto_DataType,
  TensorShapeProto_DimensionSchema,
  TypeProto_TensorSchema,
  ValueInfoProtoSchema,
} from '../proto/onnx_pb.ts'
import { recordedIntegers } from '../quantized/integers.ts'
import { type FoundSite, findSites, type Site, type SiteOccurrence, type SiteTensors } from './sites.ts'

/** What a variant has at one site. */
export interface SiteBypass {
  /** Ternary deltas, each with a strength of its own. */
  side?: number
  /** A low-rank pair of symbolic rank. */
  lowRank?: boolean
  /** A delta in floats. */
  delta?: boolean
  /** Factors of the inputs and of the outputs. */
  inputScale?: boolean
  outputScale?: boolean
  /** Added to the outputs. */
  bias?: boolean
}

/**
 * What an input is to be fed with. `codes` and `ones`: B and the scales of a MatMulNBits with 2 bits. `strength`: what
 * a code is worth, one number or one for each output. `down` [inputs, rank], `strengths` [rank], `up` [rank, outputs]:
 * the factors of a low-rank pair. `delta`: as the site's float weight would be, [inputs, outputs].
 */
export type BypassInputKind =
  | 'codes'
  | 'ones'
  | 'strength'
  | 'down'
  | 'strengths'
  | 'up'
  | 'delta'
  | 'inputScale'
  | 'outputScale'
  | 'bias'

/** A graph input that a variant has more than the hoisted graph. */
export interface BypassInput {
  name: string
  kind: BypassInputKind
  dtype: 'float32' | 'float16' | 'uint8'
  /** Sizes; −1 is the rank, which the feed decides. */
  dims: readonly number[]
  /** All but `ones` belong to a site. */
  site?: string
  /** `codes` and `strength` only. */
  slot?: number
}

export interface GraphVariant {
  bytes: Uint8Array<ArrayBuffer>
  inputs: BypassInput[]
}

/** A hoisted graph to make variants of. */
export interface BypassGraph {
  file: string
  bytes: Uint8Array
  inputs: readonly HoistedInput[]
  tensors: SiteTensors
}

const DOMAIN = 'com.microsoft'
const PREFIX = 'tritswap'
const RANK = -1

/** Weights of one scale in a 2-bit matrix: what MatMulNBits has its fastest paths for; 16 where it wastes less. */
export function sideBlockSize(inputs: number): number {
  return inputs % 32 === 0 || inputs % 32 > 16 ? 32 : 16
}

/** Blocks of one row of codes. */
export function sideBlocks(inputs: number): number {
  return Math.ceil(inputs / sideBlockSize(inputs))
}

/** The sites of a hoisted graph. */
export function sitesOf({ file, bytes, inputs, tensors }: BypassGraph): Site[] {
  const model = parseModel(bytes, file)
  return findSites(model.graph!, inputs, tensors, recordedIntegers(model)).map(
    ({ places: _, ...site }) => site,
  )
}

/** A variant with `wanted` at sites by their keys. */
export function addBypass(
  { file, bytes, inputs, tensors }: BypassGraph,
  wanted: ReadonlyMap<string, SiteBypass>,
): GraphVariant {
  const model = parseModel(bytes, file)
  const builder = new BypassBuilder(model)
  for (const site of findSites(model.graph!, inputs, tensors, recordedIntegers(model))) {
    const slots = wanted.get(site.key)
    if (slots !== undefined) builder.add(site, slots)
  }
  return { bytes: serializeModel(model), inputs: builder.inputs }
}

/** Names of the inputs of a site. */
interface SiteFeeds {
  side: { codes: string; ones: string; strength: string }[]
  lowRank?: { down: string; strengths: string; up: string }
  delta?: string
  inputScale?: string
  outputScale?: string
  bias?: string
}

class BypassBuilder {
  readonly inputs: BypassInput[] = []
  readonly #model: ModelProto
  readonly #names = new Set<string>()
  #values = 0

  constructor(model: ModelProto) {
    this.#model = model
  }

  add(site: FoundSite, slots: SiteBypass): void {
    const feeds = this.#feeds(site, slots)
    for (const place of site.places) this.#patch(site, place, feeds)
  }

  /** The inputs of a site: its places share them. */
  #feeds(site: Site, slots: SiteBypass): SiteFeeds {
    const { key, dtype, inputs, outputs, kernel } = site
    const isConv = site.kind === 'conv'
    // A convolution's channels are in front of its places.
    const tail = isConv ? (kernel ?? []).slice(1).map(() => 1) : []
    const input = (kind: BypassInputKind, dims: readonly number[], more: Partial<BypassInput> = {}) =>
      this.#input({
        name: `${PREFIX}::${key}::${kind}${more.slot ?? ''}`,
        kind,
        dtype,
        dims,
        site: key,
        ...more,
      })
    const blocks = sideBlocks(inputs)
    const strength = site.parts.length > 1 ? outputs : 1
    return {
      side: Array.from({ length: slots.side ?? 0 }, (_, slot) => ({
        codes: input('codes', [outputs, blocks, sideBlockSize(inputs) / 4], { slot, dtype: 'uint8' }),
        ones: this.#input({
          name: `${PREFIX}::ones::${outputs}x${blocks}::${dtype}`,
          kind: 'ones',
          dtype,
          dims: [outputs, blocks],
        }),
        strength: input('strength', [strength], { slot }),
      })),
      lowRank: slots.lowRank
        ? {
            down: input('down', isConv ? [RANK, ...kernel!] : [inputs, RANK]),
            strengths: input('strengths', [RANK, ...tail]),
            up: input('up', isConv ? [outputs, RANK, ...tail] : [RANK, outputs]),
          }
        : undefined,
      delta: slots.delta ? input('delta', isConv ? [outputs, ...kernel!] : [inputs, outputs]) : undefined,
      inputScale: slots.inputScale
        ? input('inputScale', isConv ? [kernel![0], ...tail] : [inputs])
        : undefined,
      outputScale: slots.outputScale ? input('outputScale', [outputs, ...tail]) : undefined,
      bias: slots.bias ? input('bias', [outputs, ...tail]) : undefined,
    }
  }

  #patch(site: Site, place: SiteOccurrence, feeds: SiteFeeds): void {
    const { graph, input, output, maker, readers } = place
    if (feeds.inputScale !== undefined) {
      const scaled = this.#value(output)
      const { product } = place
      const users =
        product === undefined ? readers.map(({ node }) => node) : [product.product, product.scales]
      const first = Math.min(...users.map((user) => graph.node.indexOf(user)))
      const before = [node('Mul', [input, feeds.inputScale], [scaled])]
      if (product === undefined) for (const { node, slot } of readers) node.input[slot] = scaled
      else {
        // Other products may share the quantized input.
        const { quantize } = product
        const own = quantize.output.map(() => this.#value(output))
        before.push(
          create(NodeProtoSchema, { name: own[0], opType: quantize.opType, input: [scaled], output: own }),
        )
        for (const user of users)
          user.input = user.input.map((name) => own[quantize.output.indexOf(name)] ?? name)
      }
      graph.node.splice(first, 0, ...before)
    }
    const nodes: NodeProto[] = []
    const then = (opType: string, inputs: string[], like?: Partial<NodeProto>) => {
      const value = this.#value(output)
      nodes.push(node(opType, inputs, [value], like))
      return value
    }
    const added: string[] = []
    const viewed = (value: string) =>
      place.views.reduce(
        (from, view) => then(view.opType, [from, ...view.input.slice(1)], { attribute: view.attribute }),
        value,
      )
    if (feeds.lowRank !== undefined) {
      const { down, strengths, up } = feeds.lowRank
      if (site.kind === 'conv') {
        const narrow = then('Conv', [input, down], { attribute: place.node.attribute })
        added.push(then('Conv', [then('Mul', [narrow, strengths]), up]))
      } else {
        const narrow =
          site.kind === 'embedding' ? then('Gather', [down, input]) : then('MatMul', [input, down])
        added.push(viewed(then('MatMul', [then('Mul', [narrow, strengths]), up])))
      }
    }
    if (feeds.delta !== undefined) {
      if (site.kind === 'conv')
        added.push(then('Conv', [input, feeds.delta], { attribute: place.node.attribute }))
      else if (site.kind === 'embedding') added.push(viewed(then('Gather', [feeds.delta, input])))
      else added.push(then('MatMul', [input, feeds.delta]))
    }
    for (const { codes, ones, strength } of feeds.side) {
      const attributes = {
        K: site.inputs,
        N: site.outputs,
        bits: 2,
        block_size: sideBlockSize(site.inputs),
      }
      const product = then('MatMulNBits', [input, codes, ones], {
        domain: DOMAIN,
        attribute: Object.entries(attributes).map(([name, value]) => integer(name, value)),
      })
      added.push(then('Mul', [product, strength]))
      this.#needs(DOMAIN)
    }
    if (feeds.bias !== undefined) added.push(feeds.bias)
    const steps: [opType: string, operand: string][] = [
      ...(feeds.outputScale === undefined ? [] : [['Mul', feeds.outputScale] as [string, string]]),
      ...added.map((value) => ['Add', value] as [string, string]),
    ]
    if (steps.length === 0) return
    // The value keeps its name at the end of it all: it may be a result of the graph.
    const base = this.#value(output)
    maker.output = maker.output.map((name) => (name === output ? base : name))
    let current = base
    for (const [i, [opType, operand]] of steps.entries()) {
      const next = i === steps.length - 1 ? output : this.#value(output)
      nodes.push(node(opType, [current, operand], [next]))
      current = next
    }
    graph.node.splice(graph.node.indexOf(maker) + 1, 0, ...nodes)
  }

  #value(of: string): string {
    return `${PREFIX}::${of}::${this.#values++}`
  }

  #input(input: BypassInput): string {
    if (this.#names.has(input.name)) return input.name
    this.#names.add(input.name)
    this.inputs.push(input)
    this.#model.graph!.input.push(inputInfo(input))
    return input.name
  }

  #needs(domain: string): void {
    if (this.#model.opsetImport.some((set) => set.domain === domain)) return
    this.#model.opsetImport.push(create(OperatorSetIdProtoSchema, { domain, version: 1n }))
  }
}

function node(opType: string, input: string[], output: string[], more: Partial<NodeProto> = {}): NodeProto {
  const { domain = '', attribute = [] } = more
  return create(NodeProtoSchema, {
    name: `${PREFIX}::node::${output[0]}`,
    opType,
    domain,
    input,
    output,
    attribute,
  })
}

function integer(name: string, value: number) {
  return create(AttributeProtoSchema, {
    name,
    i: BigInt(value),
    type: AttributeProto_AttributeType.INT,
  })
}

const ELEMENT_TYPE = {
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  uint8: TensorProto_DataType.UINT8,
} as const

function inputInfo({ name, dtype, dims }: BypassInput) {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: create(TypeProto_TensorSchema, {
          elemType: ELEMENT_TYPE[dtype],
          shape: {
            dim: dims.map((size, at) =>
              create(TensorShapeProto_DimensionSchema, {
                value:
                  size === RANK
                    ? { case: 'dimParam', value: `${name}::${at}` }
                    : { case: 'dimValue', value: BigInt(size) },
              }),
            ),
          },
        }),
      },
    },
  })
}
