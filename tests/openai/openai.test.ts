/** The published clients of OpenAI's API against a loader: the package `openai` and the AI SDK, by their option `fetch`. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, Output, streamText } from 'ai'
import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import { beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { GenerationEvent } from '../../src/engine/token_stream.ts'
import { TritswapError } from '../../src/errors.ts'
import { StreamedGeneration } from '../../src/loader/generation.ts'
import type { Expert } from '../../src/loader/index.ts'
import { type OpenaiLoader, openaiFrom } from '../../src/openai/index.ts'

/** Calls of the loader, in order. */
let calls: { prompt: unknown; options: Record<string, unknown> }[]
let words: string[]
/** What the generation comes to after its words. */
let end: 'stop' | 'length' | Error
/** Words that were asked for. */
let written: number

const expert = (id: string) => ({ id }) as unknown as Expert
const experts = { sql: expert('sql'), units: expert('units') }

beforeEach(() => {
  calls = []
  words = ['Hello', ' ', 'world']
  end = 'stop'
  written = 0
})

async function* events(): AsyncGenerator<GenerationEvent, 'stop' | 'length', void> {
  yield { prompt: { ids: [1, 2, 3] } } as unknown as GenerationEvent
  for (const text of words) {
    written++
    yield { token: 7, text, ms: 1, read: 1, set: 0, experts: [] } as unknown as GenerationEvent
  }
  if (end instanceof Error) throw end
  return end
}

const loader: OpenaiLoader = {
  info: { name: 'owner/base' } as OpenaiLoader['info'],
  generate: (prompt, options) => {
    calls.push({ prompt, options: options as never })
    return new StreamedGeneration(async () => events(), options?.signal)
  },
}
const shaped = openaiFrom(loader, { experts })
const client = () =>
  new OpenAI({
    apiKey: 'none',
    baseURL: 'https://page.invalid/v1',
    fetch: shaped.fetch,
    dangerouslyAllowBrowser: true,
  })
const question = [{ role: 'user' as const, content: 'Hi' }]

describe('the package openai', () => {
  test('asks, with experts and settings', async () => {
    const { choices, usage, model } = await client().chat.completions.create({
      model: 'owner/base',
      messages: [{ role: 'developer', content: [{ type: 'text', text: 'Be brief.' }] }, ...question],
      seed: 7,
      stop: ['\n'],
      max_completion_tokens: 5,
      temperature: 0.5,
      ...({ lora: [{ id: 'sql', scale: 0.7 }, { id: 'units' }] } as object),
    })
    expect(choices[0]!.message.content).toBe('Hello world')
    expect(choices[0]!.finish_reason).toBe('stop')
    expect(usage).toEqual({ prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 })
    expect(model).toBe('owner/base')
    expect(calls[0]!.prompt).toEqual([{ role: 'system', content: 'Be brief.' }, ...question])
    expect(calls[0]!.options).toMatchObject({ maxNewTokens: 5, temperature: 0.5, seed: 7, stop: ['\n'] })
    expect(calls[0]!.options.experts).toEqual([
      { expert: experts.sql, weight: 0.7 },
      { expert: experts.units, weight: 1 },
    ])
  })

  test('reads a stream, with its usage at the end', async () => {
    end = 'length'
    const stream = await client().chat.completions.create({
      model: 'sql',
      messages: question,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('Hello world')
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe('length')
    expect(chunks.at(-1)!.usage!.total_tokens).toBe(6)
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    expect(calls[0]!.options.experts).toEqual([{ expert: experts.sql, weight: 1 }])
  })

  test('the base alone answers as itself, not with what is active', async () => {
    await client().chat.completions.create({ model: 'owner/base', messages: question })
    expect(calls[0]!.options.experts).toEqual([])
  })

  test('a reader that leaves stops the model', async () => {
    words = Array.from({ length: 1000 }, () => 'x')
    const stream = await client().chat.completions.create({ model: 'sql', messages: question, stream: true })
    for await (const _ of stream) break
    expect(written).toBeLessThan(20)
  })

  test('asks for JSON by a schema, and parses it', async () => {
    words = ['{"tool": "add", ', '"n": 3}']
    const shape = z.object({ tool: z.enum(['add', 'find']), n: z.int().min(0).max(9) })
    const { choices } = await client().chat.completions.parse({
      model: 'sql',
      messages: question,
      response_format: zodResponseFormat(shape, 'call'),
    })
    expect(choices[0]!.message.parsed).toEqual({ tool: 'add', n: 3 })
    expect(calls[0]!.options.responseFormat).toMatchObject({
      type: 'json_schema',
      schema: { type: 'object', required: ['tool', 'n'], additionalProperties: false },
    })
  })

  test('asks for any JSON, for loose JSON, and for text', async () => {
    const ask = (
      response_format:
        | OpenAI.ResponseFormatText
        | OpenAI.ResponseFormatJSONObject
        | OpenAI.ResponseFormatJSONSchema,
    ) => client().chat.completions.create({ model: 'sql', messages: question, response_format })
    const schema = { type: 'object' }
    await ask({ type: 'json_object' })
    await ask({ type: 'json_schema', json_schema: { name: 'any', schema, strict: false } })
    await ask({ type: 'json_schema', json_schema: { name: 'any' } })
    await ask({ type: 'text' })
    expect(calls.map(({ options }) => options.responseFormat)).toEqual([
      { type: 'json_object' },
      { type: 'json_schema', schema, strict: false },
      { type: 'json_object' },
      { type: 'text' },
    ])
  })

  test('lists the base and its experts', async () => {
    const ids = []
    for await (const { id } of client().models.list()) ids.push(id)
    expect(ids).toEqual(['owner/base', 'sql', 'units'])
  })

  test('gets errors as a server gives them, and asks once', async () => {
    const ask = (more: object) =>
      client().chat.completions.create({ model: 'sql', messages: question, ...more })
    await expect(ask({ model: 'other' })).rejects.toMatchObject({
      status: 400,
      code: 'input',
      message: expect.stringContaining('expected one of owner/base, sql, units'),
    })
    await expect(ask({ n: 2 })).rejects.toMatchObject({ status: 400, code: 'unsupported' })
    await expect(ask({ tools: [{}] })).rejects.toMatchObject({ code: 'unsupported' })
    expect(calls).toEqual([])
    end = new TritswapError('memory', 'Cannot go on: no room')
    await expect(ask({})).rejects.toMatchObject({ status: 500, code: 'memory' })
    expect(calls).toHaveLength(1)
  })

  test('a failure in mid-stream reaches the reader', async () => {
    end = new TritswapError('device-lost', 'Cannot go on: the GPU device was lost')
    const stream = await client().chat.completions.create({ model: 'sql', messages: question, stream: true })
    let text = ''
    const reading = (async () => {
      for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
    })()
    await expect(reading).rejects.toThrow('the GPU device was lost')
    expect(text).toBe('Hello world')
  })
})

test('without a client: the same calls on the object itself', async () => {
  const { choices } = await shaped.chat.completions.create({ model: 'owner/base', messages: question })
  expect(choices[0]!.message.content).toBe('Hello world')
  await expect(shaped.chat.completions.create({ model: 'x', messages: question })).rejects.toMatchObject({
    tag: 'input',
  })
})

describe('the AI SDK', () => {
  const provider = createOpenAICompatible({
    name: 'tritswap',
    baseURL: 'https://page.invalid/v1',
    fetch: shaped.fetch,
  })

  test('generates text with an expert', async () => {
    const { text, finishReason } = await generateText({ model: provider('sql'), prompt: 'Hi', seed: 3 })
    expect({ text, finishReason }).toEqual({ text: 'Hello world', finishReason: 'stop' })
    expect(calls[0]!.options).toMatchObject({ seed: 3, experts: [{ expert: experts.sql, weight: 1 }] })
  })

  test('generates an object', async () => {
    words = ['{"city": "Oslo"}']
    const structured = createOpenAICompatible({
      name: 'tritswap',
      baseURL: 'https://page.invalid/v1',
      fetch: shaped.fetch,
      supportsStructuredOutputs: true,
    })
    const { output } = await generateText({
      model: structured('sql'),
      prompt: 'Where?',
      output: Output.object({ schema: z.object({ city: z.string() }) }),
    })
    expect(output).toEqual({ city: 'Oslo' })
    expect(calls[0]!.options.responseFormat).toMatchObject({
      type: 'json_schema',
      schema: { properties: { city: { type: 'string' } } },
    })
  })

  test('streams text', async () => {
    const { textStream } = streamText({ model: provider('owner/base'), prompt: 'Hi' })
    let text = ''
    for await (const piece of textStream) text += piece
    expect(text).toBe('Hello world')
  })
})
