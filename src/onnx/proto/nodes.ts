/**
 * Attributes of nodes, and the parts of a graph that rewriting adds to it.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  type NodeProto,
  NodeProtoSchema,
  TensorShapeProto_DimensionSchema,
  TypeProto_TensorSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './onnx_pb.ts'

/** An integer attribute of a node. */
export function intAttribute(node: NodeProto, name: string): number | undefined {
  const attribute = node.attribute.find((candidate) => candidate.name === name)
  return attribute === undefined ? undefined : Number(attribute.i)
}

/** A float attribute of a node. */
export function floatAttribute(node: NodeProto, name: string): number | undefined {
  return node.attribute.find((candidate) => candidate.name === name)?.f
}

/** Graphs held by a node's attributes. */
export function bodiesOf(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap((attribute) => {
    if (attribute.type === AttributeProto_AttributeType.GRAPH && attribute.g !== undefined)
      return [attribute.g]
    return attribute.graphs
  })
}

export function newNode(
  name: string,
  opType: string,
  input: string[],
  output: string[],
  more: Partial<Pick<NodeProto, 'domain' | 'attribute'>> = {},
): NodeProto {
  return create(NodeProtoSchema, { name, opType, input, output, ...more })
}

export function newInt(name: string, value: number): AttributeProto {
  return create(AttributeProtoSchema, {
    name,
    i: BigInt(value),
    type: AttributeProto_AttributeType.INT,
  })
}

/** A tensor as a graph input. A size is a number, or the name of one that the feed decides. */
export function newInput(
  name: string,
  dtype: keyof typeof ONNX_TYPE,
  dims: readonly (number | string)[],
): ValueInfoProto {
  const dim = dims.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value:
        typeof size === 'string'
          ? { case: 'dimParam', value: size }
          : { case: 'dimValue', value: BigInt(size) },
    }),
  )
  const tensor = create(TypeProto_TensorSchema, { elemType: ONNX_TYPE[dtype], shape: { dim } })
  return create(ValueInfoProtoSchema, { name, type: { value: { case: 'tensorType', value: tensor } } })
}
