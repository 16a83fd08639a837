import { expect, test } from 'vitest'
import { addBypass, bindingsOf, hoistModel, OnnxGraph, sitesOf, weightTable } from '../../src/onnx/index.ts'
import { newInput } from '../../src/onnx/proto/nodes.ts'
import { floats, modelOf } from './models.ts'

const CACHE = ['batch', 2, 'past', 4] as const

async function hoisted(graph: Parameters<typeof modelOf>[0], modelType?: string) {
  const model = await hoistModel([modelOf(graph)])
  const [{ inputs }] = bindingsOf(model).graphs
  const tensors = new Map(weightTable(model).tensors.map((tensor) => [tensor.name, tensor]))
  return { graph: model.graphs[0].graph, inputs, tensors, modelType }
}

/** A lookup, and what its values are multiplied with. */
const scaledLookup = (modelType?: string) =>
  hoisted(
    {
      input: [newInput('input_ids', 'int64', ['batch', 'tokens'])],
      initializer: [
        floats('embed_tokens.weight', [6, 8], Math.sin),
        floats('scale', [], () => 3),
        floats('head.weight', [8, 8], Math.cos),
      ],
      node: [
        {
          opType: 'Gather',
          name: '/embed_tokens/Gather',
          input: ['embed_tokens.weight', 'input_ids'],
          output: ['rows'],
        },
        { opType: 'Mul', name: '/embed_tokens/Mul', input: ['rows', 'scale'], output: ['scaled'] },
        { opType: 'MatMul', name: '/head/MatMul', input: ['scaled', 'head.weight'], output: ['y'] },
      ],
    },
    modelType,
  )

test.each([
  ['gemma3_text', 'scaled'],
  ['gemma2', 'rows'],
  [undefined, 'rows'],
])('rows before a prompt of %s become what is called %s', async (modelType, output) => {
  const source = await scaledLookup(modelType)
  const [site] = sitesOf(source).filter(({ readsPrompt }) => readsPrompt)
  const { bytes, inputs } = addBypass(source, new Map([[site.key, { virtual: true }]]))
  expect(inputs).toMatchObject([{ kind: 'virtual', dims: [-1, 8] }])
  const { node } = new OnnxGraph('x', bytes).main
  const own = node.find(({ input }) => input[0] === inputs[0].name)
  expect(own).toMatchObject({ opType: 'Gather', output: [output] })
  expect(node.filter((each) => each.output.includes(output))).toHaveLength(1)
})

test('the cache of a layer is a site where the graph says its sizes, and puts out what it is given', async () => {
  const graphWith = (dims: readonly (string | number)[]) =>
    hoisted({
      input: [newInput('k', 'float32', CACHE), newInput('past_key_values.3.key', 'float32', dims)],
      output: [newInput('present.3.key', 'float32', dims), newInput('y', 'float32', [8])],
      initializer: [floats('fc.weight', [8, 8], Math.cos)],
      node: [
        { opType: 'Concat', input: ['past_key_values.3.key', 'k'], output: ['present.3.key'] },
        { opType: 'Shape', input: ['present.3.key'], output: ['shape'] },
        { opType: 'MatMul', name: '/fc/MatMul', input: ['k', 'fc.weight'], output: ['y'] },
      ],
    })
  const source = await graphWith(CACHE)
  const caches = sitesOf(source).filter(({ kind }) => kind === 'cache')
  expect(caches).toMatchObject([{ inputs: 2, outputs: 4, parts: [{ target: 'past_key_values.3.key' }] }])
  const { bytes, inputs } = addBypass(source, new Map([[caches[0].key, { virtual: true }]]))
  expect(inputs).toMatchObject([{ kind: 'virtual', dims: [1, 2, -1, 4] }])
  const { node } = new OnnxGraph('x', bytes).main
  expect(node.find(({ output }) => output.includes('present.3.key'))).toMatchObject({
    opType: 'Identity',
    input: [inputs[0].name],
  })
  const symbolic = await graphWith(['batch', 'heads', 'past', 4])
  expect(sitesOf(symbolic).some(({ kind }) => kind === 'cache')).toBe(false)
})
