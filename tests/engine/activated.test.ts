import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readBytes, readFloats } from '../../src/compress/safetensors.ts'
import type { KvCache } from '../../src/engine/kv_cache.ts'
import type { GeneratedToken } from '../../src/engine/protocol.ts'
import { Reading } from '../../src/engine/reading.ts'
import type { TextModel } from '../../src/engine/text_model.ts'
import { type StreamOptions, streamTokens } from '../../src/engine/token_stream.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { relativeDifference, type TensorValues } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { fixtureFile, PROMPT_KINDS } from '../cli/prompt_fixtures.ts'
import { fakeFetches, fakeFiles, fakeHost } from '../loader/fake_host.ts'
import { prepared, ZOO } from '../onnx/graphs.ts'
import { openOnCpu } from './chat_models.ts'

const MODEL = 'llama-tiny'
const INVOCATION = [77, 1500]
const EXPERT = [{ expert: 'alora', weight: 1 }]
const never = new AbortController().signal

/** What torch gives, by `authoring/prompt_kinds.py`. */
const torch: Record<string, { data: Float32Array; dims: readonly number[] }> = {}
let prompt: number[]
let wrote: Record<string, number[]>
/** Of the invocation that counts. */
let start: number
let model: TextModel
/** The base, or the base with the adapter merged, as the switcher of the host says. */
let session: OrtSession
let fake: ReturnType<typeof fakeHost>
/** Tokens of each pass, and who read them. */
let passes: string[]

beforeAll(async () => {
  const { tensors } = await openCheckpoint(await openFile(join(PROMPT_KINDS, MODEL, 'expected.safetensors')))
  const integers = async (name: string) =>
    Array.from(new BigInt64Array((await readBytes(tensors.get(name)!)).slice().buffer), Number)
  prompt = await integers('input_ids')
  wrote = { base: await integers('greedy.base'), alora: await integers('greedy.alora') }
  start = prompt.length - 4
  for (const name of ['base', 'alora', 'alora.keys', 'alora.values', 'base.keys'])
    torch[name] = { data: await readFloats(tensors.get(name)!), dims: tensors.get(name)!.shape }

  const { out, weights } = await prepared(join(ZOO, MODEL))
  const changed = await weights.patched(memorySource(await fixtureFile(MODEL, 'alora')))
  const { Tensor } = await import('@xenova/transformers')
  const feedsOf = (values?: TensorValues) =>
    Object.fromEntries(
      Array.from(weights.feeds('onnx/model.onnx', values), ([name, { dtype, dims, data }]) => [
        name,
        new Tensor(dtype as 'float32', data as Float32Array, [...dims]).ort_tensor,
      ]),
    )
  const [plain, patched] = [feedsOf(), feedsOf(changed)]
  model = await openOnCpu(`${out}/`)
  const { model: real } = model.sessions as Record<string, OrtSession>
  const inputNames = real.inputNames.filter((name) => !(name in plain))
  const inputMetadata = real.inputMetadata?.filter(({ name }) => !(name in plain))
  const run: OrtSession['run'] = (own) => {
    const [who] = fake.merged()
    passes.push(`${who ?? 'base'} ${(own.input_ids as { dims: number[] }).dims[1]}`)
    return real.run({ ...own, ...(who === undefined ? plain : patched) })
  }
  session = { inputNames, inputMetadata, run }
})
afterAll(() => model?.dispose())

beforeEach(async () => {
  fake = fakeHost()
  passes = []
  const fetches = fakeFetches({ ...fakeFiles(), invocations: { alora: INVOCATION } })
  for (const id of ['alora', 'plain']) {
    const { port, signal } = fetches.load({ source: `${id}.trit` })
    await fake.host.loaded.load(id, undefined, port, signal)
  }
})

const sessions = () => ({ model: session })

async function generate(ids: readonly number[], options: StreamOptions = {}, cache?: KvCache) {
  const text = {
    sessions: sessions(),
    encodePrompt: () => ({ ids: [...ids] }),
    generate: model.generate.bind(model),
  }
  const { events } = streamTokens(
    fake.host,
    text as never,
    '',
    { maxNewTokens: 12, ...options },
    never,
    cache,
  )
  const tokens: GeneratedToken[] = []
  for await (const event of events) if ('token' in event) tokens.push(event)
  return tokens
}

const idsOf = (tokens: readonly GeneratedToken[]) => tokens.map(({ token }) => token)

async function logits(ids: readonly number[], names = EXPERT) {
  const { runtime, loaded } = fake.host
  const reading = new Reading()
  reading.begin(ids)
  const set = loaded.set(names)
  const context = runtime.passContext(set, { acts: reading.acts })
  const found = await model.logits(ids, runtime.sessions(sessions(), context), {
    front: () => 0,
    stops: () => reading.stops(set),
    readFrom: reading.readFrom,
  })
  context.end()
  return found
}

/** [layers, heads, positions, size] of the first positions of a cache. */
function cached({ tensors }: KvCache, part: 'key' | 'value', positions: number): Float32Array {
  const layers = Object.entries(tensors).filter(([name]) => name.endsWith(part))
  return Float32Array.from(
    layers.flatMap(([, tensor]) => [
      ...(tensor.slice(null, null, [0, positions], null).data as Float32Array),
    ]),
  )
}

describe('an activated LoRA', () => {
  test('writes what peft writes; the base reads what comes before the invocation', async () => {
    const tokens = await generate(prompt, { experts: EXPERT })
    expect(idsOf(tokens)).toEqual(wrote.alora)
    expect(passes.slice(0, 3)).toEqual([`base ${start}`, 'alora 4', 'alora 1'])
    expect(tokens[0]).toMatchObject({ experts: EXPERT, read: 4, before: [{ experts: [], tokens: start }] })
    expect(tokens[1].before).toBeUndefined()
    // By activation it is the same, and the base comes back after it.
    await fake.host.loaded.activate(EXPERT)
    expect(idsOf(await generate(prompt))).toEqual(wrote.alora)
    await fake.host.loaded.activate([])
    expect(idsOf(await generate(prompt))).toEqual(wrote.base)
  })

  test('has the keys and values of the base before its invocation, bit for bit, and those of peft behind it', async () => {
    const [own, base] = [model.newCache(), model.newCache()]
    await generate(prompt, { experts: EXPERT, maxNewTokens: 1 }, own)
    await generate(prompt.slice(0, start), { experts: [], maxNewTokens: 1 }, base)
    for (const part of ['key', 'value'] as const) {
      expect(cached(own, part, start)).toEqual(cached(base, part, start))
      const wanted = torch[`alora.${part}s`]
      expect(
        relativeDifference({ data: cached(own, part, prompt.length), dims: wanted.dims }, wanted),
      ).toBeLessThan(1e-3)
    }
  })

  test('gives logits of each part, and none of its own where it is not invoked', async () => {
    const { data, vocabulary } = await logits(prompt)
    expect(data.length).toBe(prompt.length * vocabulary)
    const last = { data: data.slice(-vocabulary), dims: [1, 1, vocabulary] }
    expect(relativeDifference(last, torch.alora)).toBeLessThan(1e-3)
    const base = (await logits(prompt, [])).data
    expect(
      relativeDifference(
        { data: data.subarray(0, start * vocabulary), dims: [] },
        { data: base.subarray(0, start * vocabulary), dims: [] },
      ),
    ).toBeLessThan(1e-6)
    passes = []
    const unasked = prompt.slice(0, 2)
    expect((await logits(unasked)).data).toEqual((await logits(unasked, [])).data)
    expect(passes).toEqual(['base 2', 'base 2'])
    const asked = await generate(unasked, { experts: EXPERT, maxNewTokens: 3 })
    expect(asked.map(({ experts }) => experts)).toEqual([[], [], []])
  })

  test('is not invoked by what is written', async () => {
    await fake.host.loaded.activate(EXPERT)
    const cut = prompt.slice(0, -4)
    // The first of the two invocations is left.
    await generate(cut, { maxNewTokens: 2 })
    expect(passes).toEqual(['base 2', `alora ${cut.length - 2}`, 'alora 1'])
  })
})

describe('between turns', () => {
  test('what the base read stays, and what the expert read is dropped', async () => {
    const cache = model.newCache()
    const asked = prompt.slice(0, 6)
    const answer = idsOf(await generate(asked, { maxNewTokens: 4 }, cache))
    const second = [...asked, ...answer, 11, ...INVOCATION, 12]
    passes = []
    const said = idsOf(await generate(second, { experts: EXPERT, maxNewTokens: 4 }, cache))
    // The last token of an answer is not read before something follows it.
    expect(passes.slice(0, 2)).toEqual(['base 2', 'alora 3'])
    const fresh = idsOf(await generate(second, { experts: EXPERT, maxNewTokens: 4 }))
    expect(said).toEqual(fresh)
    const third = [...second, ...said, 13, ...INVOCATION, 14]
    passes = []
    const byBase = idsOf(await generate(third, { experts: [], maxNewTokens: 4 }, cache))
    // Up to the invocation of the turn before.
    expect(passes[0]).toBe(`base ${third.length - 11}`)
    expect(byBase).toEqual(idsOf(await generate(third, { experts: [], maxNewTokens: 4 })))
    passes = []
    const again = idsOf(await generate(third, { experts: EXPERT, maxNewTokens: 4 }, cache))
    expect(passes[0]).toBe('alora 3')
    expect(again).toEqual(idsOf(await generate(third, { experts: EXPERT, maxNewTokens: 4 })))
  })

  test('an ordinary expert goes on from what another one read, an activated one does not', async () => {
    const cache = model.newCache()
    const asked = prompt.slice(0, 6)
    const answer = idsOf(
      await generate(asked, { experts: [{ expert: 'plain', weight: 1 }], maxNewTokens: 4 }, cache),
    )
    const second = [...asked, ...answer, 11, ...INVOCATION, 12]
    passes = []
    await generate(second, { experts: [], maxNewTokens: 1 }, cache)
    expect(passes).toEqual(['base 5'])
    await generate(second, { experts: EXPERT, maxNewTokens: 1 }, cache)
    expect(passes.slice(1)).toEqual([`base ${second.length - 3}`, 'alora 3'])
  })
})
