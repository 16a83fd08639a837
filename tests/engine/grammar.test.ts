/** Answers by a schema: whatever a model would rather say, what it says parses. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Ajv } from 'ajv'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { Grammars, type Vocabulary } from '../../src/engine/grammar.ts'
import { answerSchema, type JsonSchema, type ResponseFormat } from '../../src/engine/response_format.ts'
import type { TextModel } from '../../src/engine/text_model.ts'
import { LONG } from '../tier.ts'
import { openOnCpu, TINY_CHAT } from './chat_models.ts'

const SCRIPT = pathToFileURL(createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar')).href
// The library looks for the address of its script as browsers have it.
vi.stubGlobal('location', { href: SCRIPT })

const TOOL: JsonSchema = {
  type: 'object',
  properties: {
    name: { enum: ['get_weather', 'add'] },
    arguments: {
      type: 'object',
      properties: {
        city: { type: 'string', maxLength: 8 },
        days: { type: 'integer', minimum: 1, maximum: 14 },
      },
      required: ['city'],
      additionalProperties: false,
    },
  },
  required: ['name', 'arguments'],
  additionalProperties: false,
}

const SCHEMAS: Record<string, JsonSchema> = {
  'a call of a tool': TOOL,
  'a list of bounds': { type: 'array', items: { type: 'number' }, minItems: 2, maxItems: 3 },
  'a choice': { anyOf: [{ type: 'string', maxLength: 3 }, { type: 'null' }, { const: { a: [1] } }] },
  'types in a list': { type: ['integer', 'boolean'] },
  'any of two properties': { type: 'object', properties: { a: { type: 'null' }, b: {} }, minProperties: 1 },
  'one that refers to itself': {
    $ref: '#/$defs/tree',
    $defs: {
      tree: {
        type: 'object',
        properties: { n: { type: 'integer' }, left: { $ref: '#/$defs/tree' } },
        required: ['n'],
        additionalProperties: false,
      },
    },
  },
  'a pattern': { type: 'string', pattern: '^[a-f]{2}-[0-9]+$' },
}

/** Bytes, pieces of several letters that cross what the grammar tells apart, and an end that writes nothing. */
const PIECES = ['": ', '{"', '"}', 'name', '", "', 'null', 'true', '12', '],[', '\n  ', 'arguments', 'é', '-']
const BYTES: Vocabulary = {
  tokens: ['', ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)), ' ', '\n', ...PIECES],
  kind: 'raw',
}
const END = 0

let state = 7
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}

const grammars = new Grammars(SCRIPT, () => BYTES)

/** What a model says that has no idea: each token is drawn from those that are left. */
async function babble(format: ResponseFormat, most: number): Promise<string | undefined> {
  const mask = await grammars.answer(answerSchema(format)!, [END])
  try {
    let text = ''
    for (let count = 0; count < most; count++) {
      const logits = new Float32Array(BYTES.tokens.length + 5)
      mask.apply(logits)
      const left = [...logits.keys()].filter((token) => logits[token] === 0)
      // Long strings and deep trees have no end of themselves.
      const chosen = left.includes(END) ? END : left[Math.floor(random() * left.length)]!
      if (chosen === END) return text
      text += BYTES.tokens[chosen]
      mask.accept(chosen)
      await mask.settled
    }
    return undefined
  } finally {
    mask.dispose()
  }
}

test.each(Object.entries(SCHEMAS))(
  '%s: random tokens come to what the schema describes',
  async (_, schema) => {
    const fits = new Ajv({ strict: false }).compile(schema)
    let ended = 0
    for (let i = 0; i < (LONG ? 200 : 8); i++) {
      const text = await babble({ type: 'json_schema', schema }, 400)
      if (text === undefined) continue
      ended++
      expect({ text, fits: fits(JSON.parse(text)) }).toEqual({ text, fits: true })
    }
    expect(ended).toBeGreaterThan(3)
  },
)

test('json_object is any object, with properties that nobody named', async () => {
  const answers = []
  for (let i = 0; i < 10; i++) answers.push(await babble({ type: 'json_object' }, 400))
  const whole = answers.filter((text) => text !== undefined).map((text) => JSON.parse(text))
  expect(whole.length).toBeGreaterThan(1)
  for (const value of whole) expect(value).toEqual(expect.any(Object))
  expect(whole.every((value) => !Array.isArray(value))).toBe(true)
})

describe('what no grammar holds an answer to is refused, with its place', () => {
  test.each<[string, JsonSchema]>([
    ['not', { type: 'object', properties: { a: { not: { type: 'string' } } } }],
    ['multipleOf', { type: 'array', items: { type: 'integer', multipleOf: 3 } }],
    ['uniqueItems', { type: 'array', uniqueItems: true }],
    ['properties', { anyOf: [{ type: 'object' }], properties: { a: {} } }],
    ['minimum', { minimum: 3 }],
    ['required', { required: ['a'] }],
    ['required b, which is no property,', { type: 'object', properties: { a: {} }, required: ['a', 'b'] }],
    ['allOf of several schemas', { allOf: [{ type: 'object' }, { type: 'object' }] }],
    ['pattern beside a length', { type: 'string', pattern: 'a+', maxLength: 3 }],
  ])('%s', (keyword, schema) => {
    expect(() => answerSchema({ type: 'json_schema', schema })).toThrow(
      expect.objectContaining({ tag: 'unsupported', message: expect.stringContaining(`to ${keyword} at #`) }),
    )
  })

  test('but not what says nothing of the values', () => {
    const schema = {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'string',
      title: 'City',
      description: 'A city',
      default: 'Oslo',
      minimum: 3,
    }
    expect(answerSchema({ type: 'json_schema', schema })).toEqual({ schema, strict: true })
  })
})

test.each([
  { schema: { type: 'objekt' }, why: 'Unsupported type "objekt"' },
  { schema: { $ref: '#/nowhere' }, why: 'nowhere' },
  { schema: { type: 'string', pattern: '((' }, why: 'parenthesis' },
])('a schema that is none says why: $why', async ({ schema, why }) => {
  await expect(babble({ type: 'json_schema', schema }, 5)).rejects.toMatchObject({
    tag: 'input',
    message: expect.stringContaining(why),
  })
  expect(await babble({ type: 'json_schema', schema: { const: 1 } }, 5)).toBe('1')
})

test('the library that is not there is named, and asked for again', async () => {
  const missing = new Grammars(`${SCRIPT}.gone`, () => BYTES)
  const ask = () => missing.answer({ schema: {}, strict: true }, [END])
  await expect(ask()).rejects.toMatchObject({
    tag: 'network',
    message: expect.stringContaining('tritswap assets'),
  })
  await expect(ask()).rejects.toMatchObject({ tag: 'network' })
})

describe('a model that chats', () => {
  let model: TextModel
  beforeAll(async () => {
    model = await openOnCpu(TINY_CHAT, {}, { grammar: SCRIPT })
  })

  const responseFormat: ResponseFormat = { type: 'json_schema', schema: TOOL }
  const answer = async (options: object, before: number[] = []) => {
    const { ids } = model.encodePrompt([{ role: 'user', content: 'Weather in Oslo?' }], {})
    const tokens: number[] = []
    let text = ''
    const onToken = (token: number, piece: string) => {
      tokens.push(token)
      text += piece
      return false
    }
    const end = await model.generate(
      { ids: [...ids, ...before] },
      model.sessions,
      onToken,
      { maxNewTokens: 120, responseFormat, ...options },
      { answer: before.length },
    )
    return { text, tokens, end }
  }

  test('answers by the schema, greedy and by seed, with every processor', async () => {
    const fits = new Ajv().compile(TOOL)
    const tries = [
      {},
      { temperature: 1, seed: 3 },
      { temperature: 2, topK: 5, topP: 0.9, repetitionPenalty: 1.3, seed: 4 },
    ]
    for (const options of tries) {
      const { text, end, tokens } = await answer(options)
      expect({ text, end, fits: fits(JSON.parse(text)) }).toEqual({ text, end: 'stop', fits: true })
      expect((await answer(options)).tokens).toEqual(tokens)
    }
  })

  test('goes on with an answer that was cut', async () => {
    const whole = await answer({})
    const cut = await answer({ maxNewTokens: 7 })
    expect(cut.end).toBe('length')
    const rest = await answer({}, cut.tokens)
    expect(cut.text + rest.text).toBe(whole.text)
    expect(rest.end).toBe('stop')
  })

  test('an answer that does not fit cannot go on', async () => {
    await expect(answer({}, model.encode('hello').slice(1))).rejects.toMatchObject({ tag: 'input' })
  })

  test('text is as before', async () => {
    const plain = await answer({ responseFormat: undefined, maxNewTokens: 8 })
    expect((await answer({ responseFormat: { type: 'text' }, maxNewTokens: 8 })).tokens).toEqual(plain.tokens)
  })
})
