import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { InputValues } from '../../src/cli/graph_inputs.ts'
import { ModelRun } from '../../src/cli/model_outputs.ts'
import { outputInParts } from '../../src/cli/parted_run.ts'
import { loadTokenizer } from '../../src/cli/tokenizer.ts'
import { OnnxGraph } from '../../src/onnx/index.ts'
import { ReferenceBase, readExpert } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { prepared } from '../onnx/graphs.ts'
import { TINY_CHAT } from './chat_models.ts'
import { ANSWERS, LENGTH, type PromptKind, promptExpert, REQUEST } from './tiny_prompts.ts'

const GRAPH = 'onnx/model.onnx'

test('what stands before a prompt changes what the base answers, on the CPU', async () => {
  const { out, weights } = await prepared(TINY_CHAT)
  const bytes = new Uint8Array(readFileSync(join(out, GRAPH)))
  const base = await ReferenceBase.create(weights, [new OnnxGraph(GRAPH, bytes)], {
    name: 'tiny',
    dtype: 'f32',
  })
  const { template } = await loadTokenizer(TINY_CHAT)
  const prompt = template.encode([{ role: 'user', content: REQUEST }])
  const { table, ...content } = await readExpert(memorySource(await promptExpert('caches')))
  const some = { ...table, tensors: table.tensors.slice(0, 2) }
  await expect(base.admit({ table: some, ...content }, 'x')).rejects.toMatchObject({
    tag: 'base',
    message: /keys and values of 2 layers, found those of 1/,
  })
  const runOf = async (kind?: PromptKind) => {
    if (kind === undefined)
      return { run: new ModelRun([{ file: GRAPH, bytes, ...base.feeds(GRAPH) }], new Map()) }
    const admitted = await base.admit(await readExpert(memorySource(await promptExpert(kind))), kind)
    const bound = await base.bind([{ ...admitted, weight: 1 }], 'auto')
    const { variant, feeds } = base.feeds(GRAPH, bound)
    return {
      run: new ModelRun([{ file: GRAPH, bytes: variant!, feeds }], new Map()),
      table: admitted.expert.table,
    }
  }
  const plain = await runOf()
  const answer = async (kind?: PromptKind) => {
    const own = await runOf(kind)
    const ids = [...prompt]
    for (let i = 0; i < LENGTH; i++) {
      const given = new Map<string, InputValues>([
        ['input_ids', { dims: [1, ids.length], data: Int32Array.from(ids) }],
      ])
      const { values } = await (own.table === undefined
        ? plain.run.on(given).output()
        : outputInParts(given, [own.table], (inputs, acting) =>
            (acting.length > 0 ? own : plain).run.on(inputs).output(),
          ))
      const last = values.data.subarray(values.data.length - values.dims[2])
      ids.push(last.indexOf(last.reduce((most, value) => Math.max(most, value))))
    }
    if (own.table !== undefined) await own.run.release()
    return ids.slice(prompt.length)
  }
  const found = { base: await answer(), rows: await answer('rows'), caches: await answer('caches') }
  await plain.run.release()
  expect(found).toEqual(ANSWERS)
  expect(new Set(Object.values(found).map(String)).size).toBe(3)
})
