/**
 * Weights that torch keeps as a direction and a length (`weight_norm`), and an exporter multiplied: W = g ⊙ v / ‖v‖. The graph gets
 * v and g, and computes W.
 *
 * @module
 */

import { create } from '@bufbuild/protobuf'
import { newNode } from '../proto/nodes.ts'
import { AttributeProto_AttributeType, AttributeProtoSchema, type NodeProto } from '../proto/onnx_pb.ts'
import { type FoldedGraph, likeliest, type ReadWeight, toleranceOf, weightAt } from './folded_graph.ts'

/** A weight in two tensors of the checkpoint. */
interface Parts {
  module: string
  length: string
  direction: string
}

/** ReduceL2 takes its axes as an input since this version of ONNX's operators. */
const AXES_INPUT_VERSION = 18

/** Has the graph compute a weight that a node reads, in place. @returns whether it is one of the checkpoint's */
export async function unfoldWeightNorm(
  graph: FoldedGraph,
  node: NodeProto,
  position: number,
): Promise<boolean> {
  const weight = await weightAt(graph, node, position)
  if (weight === undefined || weight.data.dims.length < 2) return false
  const { values, isWanted } = graph
  for (const direction of likeliest(values.names, node)) {
    const parts = partsOf(direction)
    const lengths = parts && values.shapeOf(parts.length)
    const shape = values.shapeOf(direction)!
    if (parts === undefined || lengths === undefined) continue
    const isTransposed = isTurned(shape, weight.data.dims)
    if (shape.join() !== weight.data.dims.join() && !isTransposed) continue
    const axes = axesOf(lengths, shape)
    if (axes === undefined) continue
    const formed = weightOf(await values.of(direction), await values.of(parts.length), shape, axes)
    // A square matrix may lie either way.
    for (const turned of shape.join() === weight.data.dims.join() ? [false, isTransposed] : [true]) {
      if (!isWeight(weight, formed, turned ? shape : undefined)) continue
      if (!isWanted(direction) && !isWanted(parts.length)) return false
      rewrite(graph, { node, position, parts, axes, turned }, weight)
      return true
    }
  }
  return false
}

/** The parts of a weight by the name of its direction. */
function partsOf(direction: string): Parts | undefined {
  const [, module, own] = /^(.+)\.(weight_v|parametrizations\.weight\.original1)$/.exec(direction) ?? []
  if (module === undefined) return undefined
  const length = own === 'weight_v' ? `${module}.weight_g` : `${module}.parametrizations.weight.original0`
  return { module, length, direction }
}

function isTurned(shape: readonly number[], dims: readonly number[]): boolean {
  return shape.length === 2 && dims.length === 2 && shape[0] === dims[1] && shape[1] === dims[0]
}

/** The axes that lengths are taken over; undefined for lengths of another form. */
function axesOf(lengths: readonly number[], shape: readonly number[]): number[] | undefined {
  const isWhole = lengths.every((size) => size === 1)
  if (isWhole) return shape.map((_, axis) => axis)
  if (lengths.length !== shape.length) return undefined
  const axes = shape.flatMap((_, axis) => (lengths[axis] === 1 ? [axis] : []))
  return lengths.every((size, axis) => size === 1 || size === shape[axis]) ? axes : undefined
}

function weightOf(
  direction: Float32Array,
  lengths: Float32Array,
  shape: readonly number[],
  axes: readonly number[],
): Float64Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1))
  const groupOf = (element: number) =>
    shape.reduce((group, size, axis) => {
      if (axes.includes(axis)) return group
      return group * size + (Math.floor(element / strides[axis]) % size)
    }, 0)
  const squares = new Float64Array(lengths.length)
  const groups = Uint32Array.from(direction, (_, i) => groupOf(i))
  for (const [i, value] of direction.entries()) squares[groups[i]] += value * value
  return Float64Array.from(
    direction,
    (value, i) => (lengths[groups[i]] * value) / Math.sqrt(squares[groups[i]]),
  )
}

/** @param turned - the shape of the weight where the initializer holds it transposed */
function isWeight(
  { data, values }: ReadWeight,
  formed: Float64Array,
  turned: readonly number[] | undefined,
): boolean {
  const { relative, absolute } = toleranceOf(data)
  const at = (i: number) => {
    if (turned === undefined) return i
    const [rows, cols] = turned
    return (i % cols) * rows + Math.floor(i / cols)
  }
  return formed.every(
    (expected, i) => Math.abs(values[at(i)] - expected) <= relative * Math.abs(expected) + absolute,
  )
}

interface Place {
  node: NodeProto
  position: number
  parts: Parts
  axes: readonly number[]
  turned: boolean
}

function rewrite(
  { main, version, initializers, nodeName }: FoldedGraph,
  { node, position, parts, axes, turned }: Place,
  { data }: ReadWeight,
): void {
  const { module } = parts
  const dtype = data.dtype as 'float32' | 'float16'
  const direction = initializers.add(parts.direction, dtype)
  const length = initializers.add(parts.length, dtype)
  const value = (what: string) => `${module}::${what}`
  const nodeOf = (opType: string, input: string[], output: string, attribute: NodeProto['attribute'] = []) =>
    newNode(nodeName(module, opType), opType, input, [output], { attribute })
  const ints = (name: string, values: readonly number[]) =>
    create(AttributeProtoSchema, { name, ints: values.map(BigInt), type: AttributeProto_AttributeType.INTS })
  const isInput = version >= AXES_INPUT_VERSION
  const norm = nodeOf(
    'ReduceL2',
    isInput ? [direction, initializers.addIntegers(value('axes'), [axes.length], axes)] : [direction],
    value('norm'),
    isInput ? [] : [ints('axes', axes)],
  )
  const nodes = [
    norm,
    nodeOf('Div', [length, value('norm')], value('scale')),
    nodeOf('Mul', [direction, value('scale')], value('weight')),
  ]
  let weight = value('weight')
  if (turned) {
    nodes.push(nodeOf('Transpose', [weight], value('transposed'), [ints('perm', [1, 0])]))
    weight = value('transposed')
  }
  const isThere = main.node.some(({ output }) => output[0] === weight)
  if (!isThere) main.node.unshift(...nodes)
  node.input[position] = weight
}
