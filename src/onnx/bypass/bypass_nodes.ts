import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import { floatsToHalves } from '../../format/float16.ts'
import { newInt, newNode } from '../proto/nodes.ts'
import {
  type ModelProto,
  type NodeProto,
  OperatorSetIdProtoSchema,
  TensorProtoSchema,
} from '../proto/onnx_pb.ts'
import { PREFIX, type SiteInputs, sideBlockSize } from './bypass_inputs.ts'
import type { FusedBiasInput, Site, SiteOccurrence } from './site.ts'

/** Domain of MatMulNBits. */
const DOMAIN = 'com.microsoft'

/** Puts nodes beside the products of a graph, in place. */
export class BypassNodes {
  readonly #model: ModelProto
  #values = 0

  constructor(model: ModelProto) {
    this.#model = model
  }

  /** output = (product · outputScale) + bypasses, the product taking input · inputScale; a lookup in other rows, or other values to keep, instead of all that. */
  add(site: Site, occurrence: SiteOccurrence, inputs: SiteInputs): void {
    if (inputs.virtual !== undefined) {
      if (site.kind === 'cache') this.#keepInstead(occurrence, inputs.virtual)
      else this.#lookUpInstead(occurrence, inputs.virtual)
      return
    }
    if (inputs.inputScale !== undefined) this.#scaleInput(occurrence, inputs.inputScale)
    const { graph, output, maker, fusedBias } = occurrence
    if (inputs.outputScale !== undefined && fusedBias !== undefined)
      this.#scaleBias(occurrence, fusedBias, site, inputs.outputScale)
    const nodes: NodeProto[] = []
    const then: Then = (opType, from, like) => {
      const value = this.#value(output)
      nodes.push(nodeOf(opType, from, value, like))
      return value
    }
    const added = this.#bypasses(site, occurrence, inputs, then)
    const steps: [opType: string, operand: string][] = [
      ...(inputs.outputScale === undefined ? [] : [['Mul', inputs.outputScale] as [string, string]]),
      ...added.map((value) => ['Add', value] as [string, string]),
    ]
    if (steps.length === 0) return
    // The last value of all takes the name of the output, which may be a result of the graph.
    const product = this.#value(output)
    maker.output = maker.output.map((name) => (name === output ? product : name))
    let current = product
    for (const [i, [opType, operand]] of steps.entries()) {
      const next = i === steps.length - 1 ? output : this.#value(output)
      nodes.push(nodeOf(opType, [current, operand], next))
      current = next
    }
    graph.node.splice(graph.node.indexOf(maker) + 1, 0, ...nodes)
  }

  /** Takes rows in place of the weight's, with whatever the lookup does to the weight left out. */
  #lookUpInstead({ scaled, ...lookup }: SiteOccurrence, rows: string): void {
    const { graph, input, views } = lookup
    const { output, maker } = scaled ?? lookup
    const nodes: NodeProto[] = []
    const then: Then = (opType, from, like) => {
      const value = this.#value(output)
      nodes.push(nodeOf(opType, from, value, like))
      return value
    }
    viewed(then('Gather', [rows, input]), views, then)
    // The last of them takes the name of the output.
    const last = nodes.at(-1) as NodeProto
    last.output = [output]
    maker.output = maker.output.map((name) => (name === output ? this.#value(output) : name))
    graph.node.splice(graph.node.indexOf(maker) + 1, 0, ...nodes)
  }

  /** Keeps given values in place of those that a layer makes of its tokens. */
  #keepInstead({ graph, output, maker }: SiteOccurrence, values: string): void {
    maker.output = maker.output.map((name) => (name === output ? this.#value(output) : name))
    graph.node.splice(graph.node.indexOf(maker) + 1, 0, nodeOf('Identity', [values], output))
  }

  #scaleInput({ graph, input, output, readers, product }: SiteOccurrence, scale: string): void {
    const scaled = this.#value(output)
    const before = [nodeOf('Mul', [input, scale], scaled)]
    let users: readonly NodeProto[]
    if (product === undefined) {
      for (const { node, position } of readers) node.input[position] = scaled
      users = readers.map(({ node }) => node)
    } else {
      // Other products may share the quantized input.
      const { quantize } = product
      const own = quantize.output.map(() => this.#value(output))
      before.push(newNode(own[0], quantize.opType, [scaled], own))
      users = [product.product, product.scales]
      for (const user of users)
        user.input = user.input.map((name) => own[quantize.output.indexOf(name)] ?? name)
    }
    graph.node.splice(Math.min(...users.map((user) => graph.node.indexOf(user))), 0, ...before)
  }

  /** Scales a bias, or the share of it that is added to the product, where a fused operator reads it. */
  #scaleBias(
    { graph }: SiteOccurrence,
    { node, position, length, first }: FusedBiasInput,
    { outputs, dtype }: Site,
    scale: string,
  ): void {
    const value = this.#value(node.output[0])
    const nodes: NodeProto[] = []
    let factors = scale
    if (length !== outputs) {
      factors = this.#value(node.output[0])
      const shares = [this.#ones(first, dtype), scale, this.#ones(length - first - outputs, dtype)]
      const inputs = shares.filter((name) => name !== undefined)
      nodes.push(nodeOf('Concat', inputs, factors, { attribute: [newInt('axis', 0)] }))
    }
    nodes.push(nodeOf('Mul', [node.input[position], factors], value))
    node.input[position] = value
    graph.node.splice(graph.node.indexOf(node), 0, ...nodes)
  }

  /** An initializer of ones; undefined for none. */
  #ones(count: number, dtype: Site['dtype']): string | undefined {
    if (count === 0) return undefined
    const name = `${PREFIX}::ones::${count}::${dtype}`
    const { initializer } = this.#model.graph!
    if (initializer.some((tensor) => tensor.name === name)) return name
    const ones = new Float32Array(count).fill(1)
    const stored = dtype === 'float16' ? floatsToHalves(ones) : ones
    initializer.push(
      create(TensorProtoSchema, {
        name,
        dims: [BigInt(count)],
        dataType: ONNX_TYPE[dtype],
        rawData: new Uint8Array(stored.buffer),
      }),
    )
    return name
  }

  /** Values to add to the product. */
  #bypasses(site: Site, { input, node, views }: SiteOccurrence, inputs: SiteInputs, then: Then): string[] {
    const { kind } = site
    const { lowRank, delta, side, bias } = inputs
    const { attribute } = node
    const productWith = (weight: string) => {
      if (kind === 'conv') return then('Conv', [input, weight], { attribute })
      return kind === 'embedding' ? then('Gather', [weight, input]) : then('MatMul', [input, weight])
    }
    const added: string[] = []
    if (lowRank !== undefined) {
      const narrow = productWith(lowRank.down)
      added.push(
        kind === 'conv'
          ? then('Conv', [narrow, lowRank.up])
          : viewed(then('MatMul', [narrow, lowRank.up]), views, then),
      )
    }
    if (delta !== undefined) added.push(viewed(productWith(delta), views, then))
    for (const { codes, ones, strength } of side) {
      const product = then('MatMulNBits', [input, codes, ones], this.#ternary(site))
      added.push(then('Mul', [product, strength]))
    }
    if (bias !== undefined) added.push(bias)
    return added
  }

  /** Domain and attributes of a product with ternary codes. */
  #ternary({ inputs, outputs }: Site): Pick<NodeProto, 'domain' | 'attribute'> {
    const { opsetImport } = this.#model
    if (!opsetImport.some((set) => set.domain === DOMAIN))
      opsetImport.push(create(OperatorSetIdProtoSchema, { domain: DOMAIN, version: 1n }))
    const attributes = { K: inputs, N: outputs, bits: 2, block_size: sideBlockSize(inputs) }
    return {
      domain: DOMAIN,
      attribute: Object.entries(attributes).map(([name, value]) => newInt(name, value)),
    }
  }

  #value(of: string): string {
    return `${PREFIX}::${of}::${this.#values++}`
  }
}

/** Adds a node and returns its value. */
type Then = (
  opType: string,
  from: string[],
  like?: Partial<Pick<NodeProto, 'domain' | 'attribute'>>,
) => string

/** Values of a lookup go through the views between it and its output. */
function viewed(value: string, views: SiteOccurrence['views'], then: Then): string {
  return views.reduce(
    (from, view) => then(view.opType, [from, ...view.input.slice(1)], { attribute: view.attribute }),
    value,
  )
}

function nodeOf(opType: string, from: string[], value: string, like?: Parameters<Then>[2]): NodeProto {
  return newNode(`${PREFIX}::node::${value}`, opType, from, [value], like)
}
