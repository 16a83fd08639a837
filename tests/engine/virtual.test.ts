import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readBytes, readFloats } from '../../src/compress/safetensors.ts'
import type { KvCache } from '../../src/engine/kv_cache.ts'
import type { PromptReading, TextModel } from '../../src/engine/text_model.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { OnnxGraph } from '../../src/onnx/index.ts'
import { type CpuFeed, ReferenceBase, readExpert, relativeDifference } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { fixtureFile, PROMPT_KINDS } from '../cli/prompt_fixtures.ts'
import { prepared, ZOO } from '../onnx/graphs.ts'
import { openOnCpu } from './chat_models.ts'

const MODEL = 'llama-tiny'
const GRAPH = 'onnx/model.onnx'
const VIRTUAL = 5

let prompt: number[]
let wrote: Record<string, number[]>
let torch: { data: Float32Array; dims: readonly number[] }
let model: TextModel
let variant: TextModel
let session: OrtSession
let scratch: string
/** Tokens of each pass, and who read them. */
let passes: string[]
/** How many virtual tokens are wanted, and where the next pass begins. */
let front: number
let position: number

beforeAll(async () => {
  const { tensors } = await openCheckpoint(await openFile(join(PROMPT_KINDS, MODEL, 'expected.safetensors')))
  const integers = async (name: string) =>
    Array.from(new BigInt64Array((await readBytes(tensors.get(name)!)).slice().buffer), Number)
  prompt = await integers('input_ids')
  wrote = { base: await integers('greedy.base'), prompt: await integers('greedy.prompt') }
  torch = { data: await readFloats(tensors.get('prompt')!), dims: tensors.get('prompt')!.shape }

  const { out, weights } = await prepared(join(ZOO, MODEL))
  const bytes = new Uint8Array(readFileSync(join(out, GRAPH)))
  const base = await ReferenceBase.create(weights, [new OnnxGraph(GRAPH, bytes)], {
    name: MODEL,
    dtype: 'f32',
  })
  const admitted = await base.admit(
    await readExpert(memorySource(await fixtureFile(MODEL, 'prompt'))),
    'prompt',
  )
  const bound = await base.bind([{ ...admitted, weight: 1 }], 'auto')
  expect(bound.changed.size).toBe(0)
  scratch = mkdtempSync(join(tmpdir(), 'tritswap-virtual-'))
  cpSync(out, scratch, { recursive: true })
  writeFileSync(join(scratch, GRAPH), bound.variants.get(GRAPH)!.bytes)

  const { Tensor } = await import('@xenova/transformers')
  const feedsOf = (feeds: ReadonlyMap<string, CpuFeed>) =>
    Object.fromEntries(
      Array.from(feeds, ([name, { dtype, dims, data }]) => [
        name,
        new Tensor(dtype as 'float32', data as Float32Array, [...dims]).ort_tensor,
      ]),
    )
  const plain = feedsOf(base.feeds(GRAPH).feeds)
  const patched = feedsOf(base.feeds(GRAPH, bound).feeds)
  model = await openOnCpu(`${out}/`)
  variant = await openOnCpu(`${scratch}/`)
  const { model: real } = model.sessions as Record<string, OrtSession>
  const { model: other } = variant.sessions as Record<string, OrtSession>
  session = {
    inputNames: real.inputNames.filter((name) => !(name in plain)),
    inputMetadata: real.inputMetadata?.filter(({ name }) => !(name in plain)),
    run(own) {
      const isVirtual = position < front
      passes.push(`${isVirtual ? 'virtual' : 'base'} ${(own.input_ids as { dims: number[] }).dims[1]}`)
      return isVirtual ? other.run({ ...own, ...patched }) : real.run({ ...own, ...plain })
    },
  }
})
afterAll(async () => {
  await model?.dispose()
  await variant?.dispose()
  if (scratch) rmSync(scratch, { recursive: true })
})
beforeEach(() => {
  passes = []
})

const reading = (): PromptReading => ({
  front: () => front,
  stops: () => (front > 0 ? [front] : []),
  readFrom(next) {
    position = next
  },
  keeps: () => true,
  onPart() {},
})

async function generate(wanted: number, ids: readonly number[] = prompt, cache?: KvCache) {
  front = wanted
  const tokens: number[] = []
  const take = (token: number) => {
    tokens.push(token)
    return false
  }
  const options = { maxNewTokens: 12 }
  await model.generate({ ids: [...ids] }, { model: session as never }, take, options, {
    cache,
    reading: reading(),
  })
  return tokens
}

test('are read before the prompt, in a pass of their own, and the base writes what peft writes', async () => {
  expect(await generate(VIRTUAL)).toEqual(wrote.prompt)
  expect(passes.slice(0, 3)).toEqual([`virtual ${VIRTUAL}`, `base ${prompt.length}`, 'base 1'])
  expect(await generate(0)).toEqual(wrote.base)
})

test('give the logits of the prompt that torch gives', async () => {
  front = VIRTUAL
  const { data, vocabulary } = await model.logits(prompt, { model: session as never }, reading())
  expect(data.length).toBe(prompt.length * vocabulary)
  const last = { data: data.slice(-vocabulary), dims: [1, 1, vocabulary] }
  expect(relativeDifference(last, torch)).toBeLessThan(1e-3)
})

test('stay in a cache with what follows them, and leave it with all of it', async () => {
  const cache = model.newCache()
  const answer = await generate(VIRTUAL, prompt, cache)
  const next = [...prompt, ...answer, 11, 12]
  passes = []
  const kept = await generate(VIRTUAL, next, cache)
  // The last token of an answer is not read before something follows it.
  expect(passes[0]).toBe('base 3')
  expect(kept).toEqual(await generate(VIRTUAL, next))
  passes = []
  expect(await generate(0, next, cache)).toEqual(await generate(0, next))
  expect(passes[0]).toBe(`base ${next.length}`)
})
