/**
 * Batch norms that an exporter multiplied into the product before them: W′ = s ⊙ W and b′ = β + s ⊙ (b − μ) with
 * s = γ / √(σ² + ε), all by output. The product gets back the weight and bias of the checkpoint, and a BatchNormalization after it
 * the rest, so that each of them is a tensor that experts change.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { floatAttribute, intAttribute, newInt, newNode } from '../proto/nodes.ts'
import { AttributeProto_AttributeType, AttributeProtoSchema, type NodeProto } from '../proto/onnx_pb.ts'
import {
  byLikeness,
  type FoldedGraph,
  likeliest,
  type ReadWeight,
  toleranceOf,
  weightAt,
} from './folded_graph.ts'

/** How a product's weight lies in its initializer, and in the checkpoint. */
interface Lie {
  shape: readonly number[]
  outputs: number
  /** The output that an element of the checkpoint's weight belongs to. */
  outputOf: (element: number) => number
  /** Where it is in the initializer. */
  at: (element: number) => number
}

/** A batch norm of the checkpoint. */
interface Norm {
  module: string
  gamma: Float32Array
  beta: Float32Array
  mean: Float32Array
  variance: Float32Array
}

/** What a folded product was made of. */
interface Found {
  weight: string
  bias?: string
  norm: Norm
  epsilon: number
}

/** What frameworks add to a variance, torch's default first. */
const EPSILONS = [1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 2e-5, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 0]

/** Takes the batch norm out of a product, in place. @returns whether it held one of the checkpoint's */
export async function unfoldBatchNorm(graph: FoldedGraph, node: NodeProto): Promise<boolean> {
  const weight = await weightAt(graph, node, 1)
  const bias = await weightAt(graph, node, 2)
  const lie = weight && lieOf(node, weight.data.dims)
  if (weight === undefined || bias === undefined || lie === undefined) return false
  if (bias.values.length !== lie.outputs) return false
  const found = await findSource(graph, node, { weight, bias, lie })
  if (found === undefined) return false
  rewrite(graph, node, found, weight)
  return true
}

function lieOf(node: NodeProto, dims: readonly number[]): Lie | undefined {
  const count = dims.reduce((product, size) => product * size, 1)
  const asStored = (element: number) => element
  if (node.opType === 'Conv' && dims.length >= 3) {
    const inner = count / dims[0]
    return { shape: dims, outputs: dims[0], outputOf: (i) => Math.floor(i / inner), at: asStored }
  }
  if (node.opType === 'ConvTranspose' && dims.length >= 3) {
    const groups = intAttribute(node, 'group') ?? 1
    const kernel = count / dims[0] / dims[1]
    const outputOf = (i: number) => {
      const group = Math.floor(i / (count / groups))
      return group * dims[1] + (Math.floor(i / kernel) % dims[1])
    }
    return { shape: dims, outputs: dims[1] * groups, outputOf, at: asStored }
  }
  const scale = (name: string) => floatAttribute(node, name) ?? 1
  const isPlain = scale('alpha') === 1 && scale('beta') === 1 && intAttribute(node, 'transA') !== 1
  if (node.opType !== 'Gemm' || dims.length !== 2 || !isPlain) return undefined
  const isTransposed = intAttribute(node, 'transB') !== 1
  const [outputs, inputs] = isTransposed ? [dims[1], dims[0]] : dims
  const outputOf = (i: number) => Math.floor(i / inputs)
  const at = isTransposed ? (i: number) => (i % inputs) * outputs + outputOf(i) : asStored
  return { shape: [outputs, inputs], outputs, outputOf, at }
}

interface Folded {
  weight: ReadWeight
  bias: ReadWeight
  lie: Lie
}

async function findSource(
  { values, isWanted }: FoldedGraph,
  node: NodeProto,
  { weight, bias, lie }: Folded,
): Promise<Found | undefined> {
  const norms = await normsOf(values, lie.outputs)
  if (norms.length === 0) return undefined
  const candidates = values.names.filter((name) => values.shapeOf(name)!.join() === lie.shape.join())
  for (const name of likeliest(candidates, node)) {
    const scales = scalesOf(weight, await values.of(name), lie)
    if (scales === undefined) continue
    const ownBias = name.replace(/weight$/, 'bias')
    const hasBias = ownBias !== name && values.shapeOf(ownBias)?.join() === `${lie.outputs}`
    const inner = hasBias ? await values.of(ownBias) : new Float32Array(lie.outputs)
    for (const module of byLikeness(
      norms.map((norm) => norm.module),
      name.replace(/\.weight$/, ''),
    )) {
      const norm = norms.find((one) => one.module === module)!
      const epsilon = epsilonOf(scales, norm, weight)
      if (epsilon === undefined || !isBias(bias, inner, norm, epsilon)) continue
      const tensors = [name, ownBias, ...Object.values(tensorsOf(module))]
      if (!tensors.some((tensor) => values.shapeOf(tensor) !== undefined && isWanted(tensor)))
        return undefined
      return { weight: name, bias: hasBias ? ownBias : undefined, norm, epsilon }
    }
  }
  return undefined
}

/** Names of the tensors of a batch norm. */
function tensorsOf(module: string) {
  const of = (name: string) => `${module}.${name}`
  return { gamma: of('weight'), beta: of('bias'), mean: of('running_mean'), variance: of('running_var') }
}

/** The batch norms of a checkpoint over a number of channels, with their scale and shift. */
async function normsOf(values: FoldedGraph['values'], channels: number): Promise<Norm[]> {
  const norms: Norm[] = []
  for (const name of values.names) {
    const module = /^(.+)\.running_var$/.exec(name)?.[1]
    if (module === undefined) continue
    const names = tensorsOf(module)
    if (Object.values(names).some((tensor) => values.shapeOf(tensor)?.join() !== `${channels}`)) continue
    norms.push({
      module,
      gamma: await values.of(names.gamma),
      beta: await values.of(names.beta),
      mean: await values.of(names.mean),
      variance: await values.of(names.variance),
    })
  }
  return norms
}

/**
 * What each output of a weight was multiplied with, NaN for those that the checkpoint has all zeros for; undefined where it was
 * something else that was done to it.
 */
function scalesOf({ data, values }: ReadWeight, original: Float32Array, lie: Lie): Float64Array | undefined {
  const scales = new Float64Array(lie.outputs).fill(Number.NaN)
  const largest = new Float64Array(lie.outputs)
  for (let i = 0; i < original.length; i++) {
    const output = lie.outputOf(i)
    const size = Math.abs(original[i])
    if (size <= largest[output]) continue
    largest[output] = size
    scales[output] = values[lie.at(i)] / original[i]
  }
  const { relative, absolute } = toleranceOf(data)
  for (let i = 0; i < original.length; i++) {
    const output = lie.outputOf(i)
    const expected = largest[output] === 0 ? 0 : scales[output] * original[i]
    const found = values[lie.at(i)]
    if (!(Math.abs(found - expected) <= relative * Math.abs(expected) + absolute)) return undefined
  }
  return scales
}

/** The ε with which a norm has these scales; undefined where none does. */
function epsilonOf(
  scales: Float64Array,
  { gamma, variance }: Norm,
  { data }: ReadWeight,
): number | undefined {
  const { relative, absolute } = toleranceOf(data)
  const distance = (epsilon: number) => {
    let worst = 0
    for (const [i, scale] of scales.entries()) {
      if (Number.isNaN(scale)) continue
      const expected = gamma[i] / Math.sqrt(variance[i] + epsilon)
      worst = Math.max(worst, Math.max(0, Math.abs(scale - expected) - absolute) / Math.abs(expected || 1))
    }
    return worst
  }
  const known = EPSILONS.map((epsilon) => ({ epsilon, by: distance(epsilon) }))
  const best = known.reduce((a, b) => (b.by < a.by ? b : a))
  return best.by <= relative ? best.epsilon : undefined
}

/** Whether b′ = β + s ⊙ (b − μ). */
function isBias(
  { data, values }: ReadWeight,
  inner: Float32Array,
  { gamma, beta, mean, variance }: Norm,
  epsilon: number,
): boolean {
  const { relative, absolute } = toleranceOf(data)
  return values.every((found, i) => {
    const scale = gamma[i] / Math.sqrt(variance[i] + epsilon)
    const expected = beta[i] + scale * (inner[i] - mean[i])
    const size = Math.abs(beta[i]) + Math.abs(scale) * (Math.abs(inner[i]) + Math.abs(mean[i]))
    return Math.abs(found - expected) <= relative * size + absolute
  })
}

function rewrite(
  { main, initializers, nodeName }: FoldedGraph,
  node: NodeProto,
  { weight, bias, norm, epsilon }: Found,
  { data }: ReadWeight,
): void {
  const dtype = data.dtype as 'float32' | 'float16'
  const [output] = node.output
  const product = `${output}::product`
  const add = (tensor: string) => initializers.add(tensor, dtype)
  node.input = [node.input[0], add(weight), ...(bias === undefined ? [] : [add(bias)])]
  node.output = [product]
  if (node.opType === 'Gemm')
    node.attribute = [...node.attribute.filter(({ name }) => name !== 'transB'), newInt('transB', 1)]
  const { gamma, beta, mean, variance } = tensorsOf(norm.module)
  const batchNorm = newNode(
    nodeName(norm.module, 'BatchNormalization'),
    'BatchNormalization',
    [product, add(gamma), add(beta), add(mean), add(variance)],
    [output],
    {
      attribute: [
        create(AttributeProtoSchema, {
          name: 'epsilon',
          f: epsilon,
          type: AttributeProto_AttributeType.FLOAT,
        }),
      ],
    },
  )
  main.node.splice(main.node.indexOf(node) + 1, 0, batchNorm)
}
