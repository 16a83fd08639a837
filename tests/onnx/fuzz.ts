/**
 * Hostile ONNX graphs, from a seed: true ones with bytes changed, and with fields of nodes and tensors exchanged. Every
 * case is hoisted, or refused by one of our errors.
 *
 * @module
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { externalFilesOf, hoistModel, OnnxGraph, weightPieces } from '../../src/onnx/index.ts'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import { memorySource } from '../../src/source/memory.ts'
import { below, fuzzOf, pick, type Random } from '../hostile.ts'
import { floats, modelOf } from './models.ts'
import { ZOO } from './zoo.ts'

const small = modelOf({
  initializer: [
    floats('embed', [5, 4], (i) => Math.sin(i)),
    floats('w', [4, 6], (i) => Math.cos(i)),
    floats('b', [6], (i) => i),
    floats('v', [3, 6], (i) => i / 7),
  ],
  node: [
    { opType: 'Gather', name: '/embed/Gather', input: ['embed', 'ids'], output: ['x'] },
    { opType: 'MatMul', name: '/layers.0/q_proj/MatMul', input: ['x', 'w'], output: ['p'] },
    { opType: 'Add', name: '/layers.0/q_proj/Add', input: ['p', 'b'], output: ['q'] },
    { opType: 'Gemm', name: '/head/Gemm', input: ['q', 'v'], output: ['y'] },
  ],
}).graph.bytes

/** Graphs whose weights lie beside them, so that nearly all of their bytes mean something. */
const zoo = ['model.onnx', 'model_q4.onnx', 'model_q4f16.onnx'].map((file) => ({
  bytes: new Uint8Array(readFileSync(join(ZOO, 'llama-tiny/onnx-genai', file))),
  data: new Uint8Array(readFileSync(join(ZOO, 'llama-tiny/onnx-genai', `${file}_data`))),
}))

function changedBytes(random: Random, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  let changed = bytes.slice() as Uint8Array<ArrayBuffer>
  for (let count = below(random, 4); count >= 0; count--) {
    const at = below(random, changed.length)
    const choice = random()
    if (choice < 0.4) changed[at] ^= 1 << below(random, 8)
    else if (choice < 0.7) changed[at] = below(random, 256)
    else if (choice < 0.85)
      changed.copyWithin(at, below(random, changed.length), below(random, changed.length))
    else changed = changed.slice(0, at)
    if (changed.length === 0) break
  }
  return changed
}

const INTEGERS = [0, 1, 2, 3, -1, 7, 16, 64, 2 ** 31 - 1]
const LONGS = [0n, 1n, -1n, 2n, 6n, 2n ** 31n, 2n ** 40n, 2n ** 62n]
const OPERATORS = ['MatMul', 'Gemm', 'MatMulNBits', 'Gather', 'Transpose', 'Add', 'Attention', 'Identity', '']

/** A field somewhere in the graph exchanged for a value of its type. */
function changedFields(random: Random, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const model = parseModel(bytes.slice(), 'seed')
  const { node, initializer } = model.graph!
  for (let count = below(random, 3); count >= 0; count--) {
    const at = pick(random, node)
    const tensor = initializer.length === 0 ? undefined : pick(random, initializer)
    const other = pick(random, node)
    switch (below(random, 9)) {
      case 0:
        at.opType = pick(random, OPERATORS)
        break
      case 1:
        at.input[below(random, at.input.length + 1)] = pick(random, [
          ...other.output,
          ...other.input,
          '',
          'none',
        ])
        break
      case 2:
        at.output[0] = pick(random, [...other.output, ''])
        break
      case 3:
        at.attribute.splice(below(random, at.attribute.length + 1), 1)
        break
      case 4:
        for (const attribute of at.attribute.slice(0, 1)) {
          attribute.i = pick(random, LONGS)
          attribute.ints = [pick(random, LONGS)]
        }
        break
      case 5:
        if (tensor) tensor.dims = Array.from({ length: below(random, 5) }, () => pick(random, LONGS))
        break
      case 6:
        if (tensor) tensor.dataType = pick(random, INTEGERS)
        break
      case 7:
        if (tensor) tensor.rawData = tensor.rawData.slice(0, below(random, tensor.rawData.length + 1))
        break
      default:
        if (tensor?.externalData.length)
          pick(random, tensor.externalData).value = pick(random, [
            '0',
            '-1',
            '1e9',
            '../x',
            '',
            '9'.repeat(30),
          ])
        else if (tensor) initializer.push(tensor)
    }
  }
  return serializeModel(model)
}

async function graph(random: Random): Promise<void> {
  const seed = random() < 0.4 ? { bytes: small, data: new Uint8Array() } : pick(random, zoo)
  const bytes = random() < 0.5 ? changedBytes(random, seed.bytes) : changedFields(random, seed.bytes)
  const file = {
    graph: new OnnxGraph('onnx/model.onnx', bytes),
    external: () => memorySource(seed.data, 'data'),
  }
  externalFilesOf(file.graph)
  const quantized = random() < 0.5 ? 'float' : 'keep'
  const model = await hoistModel([file], { quantized, modelType: pick(random, ['llama', '', 'bert']) })
  // As many as there are true bytes for.
  let left = seed.bytes.length + seed.data.length
  for await (const { bytes: piece } of weightPieces(model)) {
    left -= piece.length
    if (left < 0) break
  }
}

export const fuzz = fuzzOf([graph], ['format', 'limit', 'input', 'unsupported'])
