import { beforeAll, describe, expect, test } from 'vitest'
import { GeneratedText } from '../../src/engine/generated_text.ts'
import type { ChatMessage, GenerateOptions } from '../../src/engine/protocol.ts'
import type { TextModel } from '../../src/engine/text_model.ts'
import stopStrings from '../fixtures/stop_strings.json' with { type: 'json' }
import { openOnCpu, plainPipeline, TINY_CHAT } from './chat_models.ts'

let model: TextModel
beforeAll(async () => {
  model = await openOnCpu(TINY_CHAT)
})

const user = (content: string): ChatMessage => ({ role: 'user', content })
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content })
const system = (content: string): ChatMessage => ({ role: 'system', content })

const CHATS: ChatMessage[][] = [
  ...['one to four', 'zero to two', 'five to ten', 'three to five'].map((range) => [
    user(`Count from ${range}.`),
  ]),
  ...['sky', 'grass', 'lemon', 'coal'].map((thing) => [user(`What color is ${thing}?`)]),
  ...['Japanese', 'French', 'Greek', 'emoji'].map((language) => [user(`Say hello in ${language}.`)]),
  ...['river', 'tiger'].map((word) => [system('Be brief.'), user(`Spell ${word}.`)]),
  [system('You are a parrot.'), user('What comes after six?')],
  [user('What color is snow?'), assistant('It is white.'), user('What comes after two?')],
  [
    user('Spell lamp.'),
    assistant('l a m p'),
    user('Spell bread.'),
    assistant('b r e a d'),
    user('Spell stone.'),
  ],
  [user('Say hello in German.'), assistant('Grüß dich!'), user('Say hello in French.')],
  [user('  What   comes\nafter nine?  ')],
  [user('Explain quantum chromodynamics 🤔 <b>now</b>.')],
]

async function generate(
  messages: readonly ChatMessage[] | string,
  options: GenerateOptions = {},
  of = model,
) {
  const prompt = of.encodePrompt(messages, options)
  const tokens: number[] = []
  const pieces: string[] = []
  const onToken = (token: number, text: string) => {
    tokens.push(token)
    pieces.push(text)
    return false
  }
  const finishReason = await of.generate(prompt, of.sessions, onToken, { maxNewTokens: 40, ...options })
  return { prompt, tokens, pieces, text: pieces.join(''), finishReason }
}

test('greedy answers are those of an unmodified pipeline, for 20 chats', async () => {
  const pipeline = await plainPipeline()
  expect(CHATS).toHaveLength(20)
  for (const chat of CHATS) {
    const { tokens, text } = await generate(chat)
    const { tokenizer, model: plain } = pipeline
    const inputs = tokenizer.apply_chat_template(chat, { add_generation_prompt: true, return_dict: true })
    const ids = (await plain.generate({ ...(inputs as object), max_new_tokens: 40 })) as {
      tolist(): bigint[][]
    }
    const length = (inputs as { input_ids: { dims: number[] } }).input_ids.dims[1]
    expect(tokens).toEqual(ids.tolist()[0].slice(length).map(Number))
    const [{ generated_text: answered }] = (await pipeline(chat as never, {
      max_new_tokens: 40,
    })) as unknown as [{ generated_text: ChatMessage[] }]
    expect(text).toBe(answered.at(-1)!.content)
  }
})

test('answers are what the model was taught, and end by themselves', async () => {
  expect(await generate([user('Count from one to four.')])).toMatchObject({
    text: 'one, two, three, four.',
    finishReason: 'stop',
  })
  expect((await generate([user('Say hello in Japanese.')])).text).toBe('こんにちは!')
})

describe('the prompt', () => {
  test('begins once: the template writes what the tokenizer would', () => {
    const { ids } = model.encodePrompt([user('Hi')], {})
    expect(ids.filter((id) => id === model.encode('')[0])).toHaveLength(1)
    expect(model.encodePrompt('Hi', {}).ids[0]).toBe(model.encode('')[0])
  })

  test('without a template, messages are refused and texts are not', async () => {
    const config = JSON.stringify({ tokenizer_class: 'PreTrainedTokenizerFast', bos_token: '<|begin|>' })
    const plain = await openOnCpu(TINY_CHAT, { 'tokenizer_config.json': config })
    expect(plain.chat.exists).toBe(false)
    expect(() => plain.encodePrompt([user('Hi')], {})).toThrow(/has no chat template; give a text/)
    expect(plain.encodePrompt('Hi', {}).ids).toEqual(model.encode('Hi'))
    await plain.dispose()
  })

  test('is written by a template in a file of its own, where there is one', async () => {
    const file = 'chat_template.jinja'
    const template = '{{ bos_token }}{{ messages[0].content }}:'
    const files = { 'tokenizer_config.json': '{"bos_token":"<|begin|>"}', [file]: template }
    const apart = await openOnCpu(TINY_CHAT, files, { templateFile: file })
    expect(apart.encodePrompt([user('Hi')], {}).ids).toEqual(model.encode('Hi:'))
    await apart.dispose()
    const none = { ...files, [file]: '<!doctype html><title>Mine</title>' }
    const page = await openOnCpu(TINY_CHAT, none, { templateFile: file })
    expect(page.chat.exists).toBe(false)
    await page.dispose()
  })

  test('that a template refuses is an error that says so', async () => {
    const config = { bos_token: '<|begin|>', chat_template: "{{ raise_exception('roles must alternate') }}" }
    const strict = await openOnCpu(TINY_CHAT, { 'tokenizer_config.json': JSON.stringify(config) })
    expect(() => strict.encodePrompt([user('Hi')], {})).toThrow(/refuses them \(roles must alternate\)/)
    await strict.dispose()
    for (const wrong of [[], [{ role: 'tool', content: 'x' }], [{ role: 'user' }], [null]])
      expect(() => model.encodePrompt(wrong as never, {})).toThrow(/expected a list of { role, content }/)
  })
})

describe('settings', () => {
  test('a seed repeats, also for two calls at once; another one differs', async () => {
    const options = { temperature: 1.5, topK: 30, topP: 0.95, minP: 0.01, repetitionPenalty: 1.05 }
    const write = (seed: number) => generate([user('Explain the sea.')], { ...options, seed })
    const [a, b, c] = [await write(7), ...(await Promise.all([write(7), write(8)]))]
    expect(b.tokens).toEqual(a.tokens)
    expect((await write(8)).tokens).toEqual(c.tokens)
    expect(c.tokens).not.toEqual(a.tokens)
  })

  test('topK 1 is greedy whatever the temperature', async () => {
    const chat = [user('Count from two to six.')]
    const drawn = await generate(chat, { temperature: 5, topK: 1, seed: 3 })
    expect(drawn.tokens).toEqual((await generate(chat)).tokens)
  })

  test('out of range are errors that name them', () => {
    for (const [options, message] of [
      [{ temperature: -1 }, /temperature -1: expected a number from 0/],
      [{ topP: 0 }, /topP 0/],
      [{ minP: 2 }, /minP 2/],
      [{ topK: 1.5 }, /topK 1.5: expected a whole number/],
      [{ repetitionPenalty: 0 }, /repetitionPenalty/],
      [{ maxNewTokens: -1 }, /maxNewTokens/],
      [{ seed: 0.5 }, /seed 0.5/],
      [{ stop: [''] }, /stop/],
      [{ truncate: 'middle' as never }, /truncate middle: expected start or end/],
    ] as const)
      expect(() => model.encodePrompt('x', options as GenerateOptions)).toThrow(message)
  })

  test('of the base come last: its generation_config samples where it says so', async () => {
    const config = { eos_token_id: [3, 0], do_sample: true, temperature: 2, top_k: 40, max_new_tokens: 5 }
    const base = await openOnCpu(TINY_CHAT, { 'generation_config.json': JSON.stringify(config) })
    const chat = [user('Explain the sea.')]
    const options = { maxNewTokens: undefined }
    const [a, b] = [
      await generate(chat, { ...options, seed: 1 }, base),
      await generate(chat, { ...options, seed: 2 }, base),
    ]
    expect(a.tokens).not.toEqual(b.tokens)
    expect(a.tokens.length).toBeLessThanOrEqual(5)
    const greedy = await generate(chat, { temperature: 0, maxNewTokens: 8 }, base)
    expect(greedy.tokens).toEqual((await generate(chat, { maxNewTokens: 8 })).tokens)
    await base.dispose()
  })
})

describe('the end', () => {
  test('is the end of the template too, where the base does not name it', async () => {
    const base = await openOnCpu(TINY_CHAT, { 'generation_config.json': '{"eos_token_id":0}' })
    const { finishReason, text } = await generate([user('What color is coal?')], {}, base)
    expect([finishReason, text]).toEqual(['stop', 'It is black.'])
    await base.dispose()
  })

  test('by length flushes what waits for the rest of its character', async () => {
    const { tokens } = await generate([user('Say hello in emoji.')])
    for (let maxNewTokens = 1; maxNewTokens < tokens.length; maxNewTokens++) {
      const cut = await generate([user('Say hello in emoji.')], { maxNewTokens })
      expect(cut.finishReason).toBe('length')
      expect(cut.text).toBe(model.decode(tokens.slice(0, maxNewTokens)))
    }
    expect((await generate([user('Hi')], { maxNewTokens: 0 })).finishReason).toBe('length')
  })

  test('by a stop string, wherever tokens end in it; what only looked like one is given back', async () => {
    const chat = [user('Count from one to six.')]
    const { text: whole } = await generate(chat)
    for (const stop of [
      'three',
      'e, fo',
      ', five',
      'two, three, f',
      '.',
      'o',
      'one, two, three, four, five, six.',
    ]) {
      const { text, finishReason } = await generate(chat, { stop })
      expect([text, finishReason]).toEqual([whole.slice(0, whole.indexOf(stop)), 'stop'])
    }
    for (const stop of ['sixty', 'one, two, four', '..', ', seven']) {
      const { text, finishReason } = await generate(chat, { stop: [stop, 'never'] })
      expect([text, finishReason]).toEqual([whole, 'stop'])
    }
    expect((await generate(chat, { stop: ['four', 'two'] })).text).toBe('one, ')
    const cut = await generate(chat, { stop: 'three!', maxNewTokens: 7 })
    expect(cut.text).toBe(model.decode(cut.tokens))
  })

  test('by a stop string comes after the token that torch stops after', () => {
    for (const { tokens, stop, after, text } of stopStrings.cases) {
      const generated = new GeneratedText((ids) => model.decode(ids), [stop])
      let found = ''
      let at = 0
      while (at < tokens.length && !generated.stopped) found += generated.next(tokens[at++])
      expect([stop, generated.stopped ? at : null]).toEqual([stop, after])
      expect([stop, generated.stopped ? found : found + generated.flush()]).toEqual([stop, text])
    }
  })

  test('by a special token that is given as a stop string', async () => {
    const { finishReason, tokens } = await generate(
      '<|im_start|>user\nSpell lamp.<|im_end|>\n<|im_start|>assistant\n',
      {
        stop: '<|im_end|>',
      },
    )
    expect([finishReason, model.decode(tokens)]).toEqual(['stop', 'l a m p'])
  })
})

describe('a prompt over the context', () => {
  const long = Array.from({ length: 300 }, (_, i) => String(i % 10)).join(' ')

  test('is an error, or cut at the end that truncate names, and said', () => {
    const whole = model.encode(long)
    expect(() => model.encodePrompt(long, {})).toThrow(
      /has \d+ tokens, and the context of this base holds 256/,
    )
    const start = model.encodePrompt(long, { truncate: 'start', maxNewTokens: 56 })
    expect(start).toEqual({ ids: whole.slice(-200), truncated: { end: 'start', tokens: whole.length - 200 } })
    const end = model.encodePrompt(long, { truncate: 'end', maxNewTokens: 1000 })
    expect(end).toEqual({ ids: whole.slice(0, 128), truncated: { end: 'end', tokens: whole.length - 128 } })
    expect(model.encodePrompt('Hi', { truncate: 'end' }).truncated).toBeUndefined()
  })

  test('of messages leaves out the oldest, not the system message, then cuts the last', async () => {
    const chat = [system('Be brief.')]
    for (let i = 0; i < 12; i++)
      chat.push(user(`What comes after ${i}? ${'x'.repeat(8)}`), assistant('Nothing.'))
    chat.push(user('What color is sky?'))
    expect(() => model.encodePrompt(chat, {})).toThrow(/context/)
    const { ids, truncated } = model.encodePrompt(chat, { truncate: 'start', maxNewTokens: 100 })
    expect(ids.length).toBeLessThanOrEqual(156)
    expect(truncated).toEqual({ end: 'start', tokens: model.chat.encode(chat).length - ids.length })
    const kept = Array.from({ length: chat.length }, (_, from) => [chat[0], ...chat.slice(from + 1)])
    expect(kept.map((messages) => model.chat.encode(messages))).toContainEqual(ids)
    expect((await generate(chat, { truncate: 'start' })).text).toBe('It is blue.')
    for (const truncate of ['start', 'end'] as const) {
      const one = model.encodePrompt([system('Be brief.'), user(long)], { truncate, maxNewTokens: 56 })
      expect(one.ids.length).toBeLessThanOrEqual(200)
      expect(one.ids.length).toBeGreaterThan(190)
      const text = model.decode(one.ids)
      expect(text).toMatch(truncate === 'start' ? /8 9\nassistant/ : /user\n0 1 2/)
    }
    expect(() => model.encodePrompt([system(long), user('Hi')], { truncate: 'start' })).toThrow(
      /shorten the system/,
    )
  })
})
