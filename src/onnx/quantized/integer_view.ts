/**
 * Weights that operators take as integers (q8: DynamicQuantizeLinear with MatMulInteger or ConvInteger, and
 * DequantizeLinear) seen as float ones, so that the same rules find their names and layouts. Such a view is to be read
 * and never to be run.
 *
 * @module
 */
import { create } from '@bufbuild/protobuf'
import { ONNX_TYPE } from '../../format/dtype.ts'
import { indexGraph } from '../graph/graph_index.ts'
import { operatorOf } from '../graph/operators.ts'
import type { InitializerData } from '../proto/initializer_data.ts'
import { newNode } from '../proto/nodes.ts'
import { type GraphProto, type NodeProto, type TensorProto, TensorProtoSchema } from '../proto/onnx_pb.ts'
import type { ExternalFiles } from '../proto/tensor_bytes.ts'
import { countOf } from '../proto/tensors.ts'
import { affineData } from './affine_data.ts'
import { viewAsFloats } from './float_view.ts'
import { dequantizedChain, integerProduct } from './integer_product.ts'

/** A graph in which every quantized weight is a float initializer without bytes. */
export interface IntegerView {
  main: GraphProto
  /** Data of the float initializers that stand for quantized ones. */
  data: ReadonlyMap<TensorProto, InitializerData>
  /** Names of the integers, by the float initializers that stand for them. */
  integers: ReadonlyMap<TensorProto, string>
}

/** Replaces every quantized weight of a graph, in place. */
export function viewIntegersAsFloats(main: GraphProto, external: ExternalFiles): IntegerView {
  const data = new Map(viewAsFloats(main, external).data)
  const integers = new Map<TensorProto, string>()
  const { graphs } = indexGraph(main)
  const initializers = new Map(main.initializer.map((tensor) => [tensor.name, tensor]))
  const floats = new Map<string, TensorProto>()
  const floatOf = (
    reader: NodeProto,
    quantized: TensorProto,
    scale: TensorProto,
    zeroPoint?: TensorProto,
  ): string => {
    const name = nameOf(quantized, reader)
    if (!floats.has(quantized.name)) {
      const tensor = create(TensorProtoSchema, {
        name,
        dims: [...quantized.dims],
        dataType: ONNX_TYPE.float32,
      })
      main.initializer.push(tensor)
      floats.set(quantized.name, tensor)
      integers.set(tensor, quantized.name)
      data.set(tensor, affineData(name, { quantized, scale, zeroPoint }, external))
    }
    return name
  }
  const replaceProduct = (graph: GraphProto, node: NodeProto) => {
    const parts = integerProduct(graph, node, graphs)
    if (parts === undefined) return
    const { float, weight, zeroPoint } = operatorOf(node).integers!
    const quantized = initializers.get(node.input[weight])
    const scale = initializers.get(parts.weightScale)
    if (quantized === undefined || scale === undefined) return
    const value = floatOf(node, quantized, scale, initializers.get(node.input[zeroPoint]))
    const { attribute } = node
    const product = newNode(node.name, float, [parts.quantize.input[0], value], [parts.scale.output[0]], {
      attribute,
    })
    const gone = new Set([parts.product, parts.cast, parts.scale])
    graph.node.splice(graph.node.indexOf(parts.scale), 1, product)
    graph.node = graph.node.filter((candidate) => !gone.has(candidate))
  }
  const replaceDequantize = (graph: GraphProto, node: NodeProto) => {
    const [first = node] = dequantizedChain(graph, node)
    const quantized = initializers.get(first.input[0])
    const scale = initializers.get(node.input[1])
    if (quantized === undefined || scale === undefined || countOf(scale) !== 1) return
    if (quantized.dims.length < 2) return
    first.input[0] = floatOf(first, quantized, scale, initializers.get(node.input[2]))
    node.opType = 'Identity'
    node.input = [node.input[0]]
  }
  for (const graph of graphs) {
    for (const node of [...graph.node]) {
      if (node.opType === 'DequantizeLinear') replaceDequantize(graph, node)
      else replaceProduct(graph, node)
    }
  }
  return { main, data, integers }
}

/** Modules of transformers that keep their weight [in, out] in the checkpoint too. */
const CONV1D = /\.(c_attn|c_proj|c_fc|q_attn)\.weight$/

/** What the initializer was called. A quantizer transposes the weight of a Gemm, which was as in the checkpoint. */
function nameOf({ name }: TensorProto, reader: NodeProto): string {
  const own = name.replace(/_quantized$/, '')
  const isTransposed = reader.opType === 'MatMulInteger' && /\.weight$/.test(own) && !CONV1D.test(own)
  return isTransposed ? own.replace(/(\.MatMul)?\.weight$/, '.MatMul.weight') : own
}
