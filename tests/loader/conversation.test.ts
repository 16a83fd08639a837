import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { TextModel } from '../../src/engine/text_model.ts'
import { isAbortError, isTritswapError } from '../../src/errors.ts'
import {
  type Conversation,
  ExpertLoader,
  type GeneratedToken,
  type Generation,
} from '../../src/loader/index.ts'
import { openOnCpu, plainPipeline, TINY_CHAT } from '../engine/chat_models.ts'
import { type FakePage, fakePage } from './fake_page.ts'

let model: TextModel
let page: FakePage
let loader: ExpertLoader

beforeAll(async () => {
  model = await openOnCpu(TINY_CHAT)
})
beforeEach(async () => {
  page = fakePage()
  page.text = new Proxy(model, {
    get(target, key) {
      // Engines come and go; the model stays for the next test.
      if (key === 'dispose') return async () => {}
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  loader = await ExpertLoader.create({ model: './m' })
})
afterEach(async () => {
  await loader.dispose()
  vi.unstubAllGlobals()
})

async function read(generation: Generation): Promise<GeneratedToken[]> {
  const tokens: GeneratedToken[] = []
  for await (const token of generation) tokens.push(token)
  return tokens
}

const contextOf = ({ turns }: Conversation) => turns.flatMap(({ tokens }) => tokens)

/** What the model generates after these ids, which it reads anew. */
async function fresh(ids: readonly number[], maxNewTokens = 40): Promise<number[]> {
  const tokens: number[] = []
  const onToken = (token: number) => {
    tokens.push(token)
    return false
  }
  await model.generate({ ids: [...ids] }, model.sessions, onToken, { maxNewTokens })
  return tokens
}

describe('a conversation', () => {
  test('reads only what is new, and answers as if it read the whole', async () => {
    const conversation = loader.conversation({ system: 'Be brief.' })
    const asked = ['Count from one to five.', 'What color is lemon?', 'Say hello in Greek.', 'Spell cloud.']
    for (const [at, request] of asked.entries()) {
      const before = contextOf(conversation)
      const tokens = await read(conversation.send(request))
      const [question, answer] = conversation.turns.slice(-2)
      expect(answer.tokens).toEqual(tokens.map(({ token }) => token))
      expect(answer.content).toBe(tokens.map(({ text }) => text).join(''))
      expect(answer.tokens).toEqual(await fresh([...before, ...question.tokens]))
      // The last token of the answer before was not read yet.
      expect(tokens[0].read).toBe(question.tokens.length + (at === 0 ? 0 : 1))
      expect(tokens.slice(1).every(({ read }) => read === 1)).toBe(true)
    }
    const messages = [
      { role: 'system', content: 'Be brief.' },
      ...conversation.turns.map(({ role, content }) => ({ role, content })),
    ]
    expect(messages.map(({ content }) => content).slice(2, 4)).toEqual([
      'one, two, three, four, five.',
      asked[1],
    ])
    const pipeline = await plainPipeline()
    const [{ generated_text: said }] = (await pipeline(messages.slice(0, -1) as never, {
      max_new_tokens: 40,
    })) as unknown as [{ generated_text: typeof messages }]
    expect(said.at(-1)).toEqual(messages.at(-1))
  })

  test('keeps ids as they were generated, where encoding their text gives others', async () => {
    const conversation = loader.conversation({ temperature: 6, seed: 2, maxNewTokens: 12 })
    await read(conversation.send('Spell river.'))
    const [, answer] = conversation.turns
    const again = model.chat.encode([
      { role: 'user', content: 'Spell river.' },
      { role: 'assistant', content: answer.content },
      { role: 'user', content: 'x' },
    ])
    const before = contextOf(conversation)
    await read(conversation.send('x', { temperature: 0 }))
    expect(contextOf(conversation).slice(0, before.length)).toEqual(before)
    expect(again.slice(0, before.length)).not.toEqual(before)
    // The model did not end that answer; the template does.
    expect(answer.finishReason).toBe('length')
    expect(model.decode([...conversation.turns[2].tokens])).toBe('\nuser\nx\nassistant\n')
    expect(conversation.turns[2].tokens[0]).toBe(model.chat.endTokens[0])
    expect(conversation.turns[3].tokens).toEqual(
      await fresh([...before, ...conversation.turns[2].tokens], 12),
    )
  })

  test('goes on with an answer that was cut, also inside a character', async () => {
    const whole = loader.conversation()
    await read(whole.send('Say hello in Japanese.'))
    const [, { tokens, content }] = whole.turns
    for (let cut = 1; cut < tokens.length; cut++) {
      const conversation = loader.conversation()
      await read(conversation.send('Say hello in Japanese.', { maxNewTokens: cut }))
      const { result } = conversation.continue()
      expect(await result).toMatchObject({ finishReason: 'stop' })
      expect(conversation.turns).toHaveLength(2)
      expect(conversation.turns[1]).toMatchObject({ tokens, content, finishReason: 'stop' })
      await conversation.dispose()
    }
    await expect(whole.continue().next()).rejects.toThrow(/last answer is complete/)
    await expect(loader.conversation().continue().next()).rejects.toThrow(/nothing was asked/)
  })

  test('goes on after a stop of its reader, and with tokens written ahead that nobody read', async () => {
    const request = 'Count from one to eight.'
    const whole = loader.conversation()
    await read(whole.send(request))
    for (const cut of [0, 1, 3]) {
      const conversation = loader.conversation()
      const abort = new AbortController()
      const generation = conversation.send(request, { signal: abort.signal })
      const seen: GeneratedToken[] = []
      const reading = (async () => {
        if (cut === 0) abort.abort()
        for await (const token of generation) {
          seen.push(token)
          if (seen.length < cut) continue
          // It may write four tokens more by then.
          await new Promise((resolve) => setTimeout(resolve, 100))
          abort.abort()
        }
      })()
      await expect(reading).rejects.toSatisfy(isAbortError)
      const result = await generation.result
      expect(result).toMatchObject({ finishReason: 'aborted', usage: { newTokens: seen.length } })
      expect(result.text).toBe(seen.map(({ text }) => text).join(''))
      if (cut === 0 && conversation.turns.length === 0) continue
      expect(conversation.turns[1]).toMatchObject({
        finishReason: 'aborted',
        tokens: seen.map(({ token }) => token),
      })
      await read(conversation.continue())
      expect(conversation.turns[1]).toMatchObject({
        tokens: whole.turns[1].tokens,
        content: whole.turns[1].content,
      })
    }
  })

  test('answers anew', async () => {
    const conversation = loader.conversation()
    await read(conversation.send('What color is coal?'))
    await read(conversation.send('Spell tiger.'))
    const [before, context] = [structuredClone(conversation.turns), contextOf(conversation)]
    const [first] = await read(conversation.regenerate())
    expect(conversation.turns).toEqual(before)
    expect(first.read).toBe(1)
    await read(conversation.regenerate({ temperature: 4, seed: 1, maxNewTokens: 6 }))
    expect(contextOf(conversation)).not.toEqual(context)
    expect(contextOf(conversation).slice(0, -6)).toEqual(
      context.slice(0, context.length - before[3].tokens.length),
    )
    await expect(loader.conversation().regenerate().next()).rejects.toThrow(/nothing was asked/)
  })

  test('knows who read and wrote what; recompute lets a new set read the whole', async () => {
    const expert = await loader.load('https://x.example/a.trit')
    const experts = [{ expert: 'a', weight: 1 }]
    const conversation = loader.conversation()
    await read(conversation.send('What color is sky?'))
    await loader.activate(expert)
    const [kept] = await read(conversation.send('Spell lamp.'))
    const [asked, answered, asked2, answered2] = conversation.turns
    expect(kept.read).toBe(asked2.tokens.length + 1)
    expect(asked.readBy).toEqual([{ set: 0, experts: [], tokens: asked.tokens.length }])
    expect(answered.experts).toEqual([])
    expect(answered.readBy).toMatchObject([
      { experts: [], tokens: answered.tokens.length - 1 },
      { experts, tokens: 1 },
    ])
    expect(asked2.readBy).toMatchObject([{ experts, tokens: asked2.tokens.length }])
    expect(answered2).toMatchObject({ experts, readBy: [{ experts, tokens: answered2.tokens.length - 1 }] })
    const again = conversation.send('Spell bread.', { kv: 'recompute' })
    const [first, second] = await read(again)
    expect(first.read).toBe(contextOf(conversation).length - conversation.turns[5].tokens.length)
    expect(second.read).toBe(1)
    for (const { readBy } of conversation.turns) expect(readBy).toMatchObject([{ experts }])
    // All of it is this set's now, so nothing is read again.
    const [last] = await read(conversation.send('Spell cloud.', { kv: 'recompute' }))
    expect(last.read).toBe(conversation.turns[6].tokens.length + 1)
    const [own] = await read(conversation.send('Spell river.', { kv: 'recompute', experts: [] }))
    expect(own).toMatchObject({ experts: [], set: 0 })
    expect(own.read).toBe(contextOf(conversation).length - conversation.turns[9].tokens.length)
  })

  test('with an activated LoRA has the base read all but the last answer and what invokes it', async () => {
    const line = model.chat.encode([{ role: 'user', content: 'x' }]).slice(-3)
    page.files.invocations = { a: line }
    const expert = await loader.load('https://x.example/a.trit')
    expect(expert.invocation).toEqual(line)
    const conversation = loader.conversation({ experts: expert, maxNewTokens: 6 })
    const [first] = await read(conversation.send('Spell lamp.'))
    const experts = [{ expert: 'a', weight: 1 }]
    expect(first).toMatchObject({ experts, read: 3, before: [{ experts: [] }] })
    const [asked, answered] = conversation.turns
    const isAsked = [
      { experts: [], tokens: asked.tokens.length - 3 },
      { experts, tokens: 3 },
    ]
    expect(asked.readBy).toMatchObject(isAsked)
    expect(answered.readBy).toMatchObject([{ experts }])
    // The next turn drops back to the invocation, whatever the cache is asked to be.
    const [second] = await read(conversation.send('Spell cloud.', { kv: 'keep' }))
    const [, , asked2] = conversation.turns
    expect(second.before).toMatchObject([
      { experts: [], tokens: 3 + answered.tokens.length + asked2.tokens.length - 3 },
    ])
    for (const turn of [asked, answered]) expect(turn.readBy).toMatchObject([{ experts: [] }])
    expect(asked2.readBy).toMatchObject([{ experts: [] }, { experts, tokens: 3 }])
  })

  test('over the context is an error, or leaves the oldest turns out', async () => {
    const conversation = loader.conversation({ maxNewTokens: 20, system: 'Be brief.' })
    const send = (truncate?: 'start') => read(conversation.send('Count from three to eight.', { truncate }))
    for (let turn = 0; turn < 20 && contextOf(conversation).length < 215; turn++) await send()
    const before = structuredClone(conversation.turns)
    await expect(read(conversation.send('Count from one to two. '.repeat(9)))).rejects.toThrow(/256/)
    expect(conversation.turns).toEqual(before)
    const { result } = conversation.send('Count from three to eight. '.repeat(4).trim(), {
      truncate: 'start',
    })
    expect(await result).toMatchObject({ truncated: { end: 'start' } })
    expect(conversation.turns).toHaveLength(before.length + 2)
    expect(conversation.turns[0].tokens).toEqual([])
    expect(contextOf(conversation).length).toBeLessThan(256)
    expect(model.decode(contextOf(conversation))).toMatch(/^system\nBe brief\.\nuser\nCount from three/)
    await send('start')
    expect(conversation.turns.at(-1)!.tokens.length).toBeGreaterThan(0)
  })

  test('one answer at a time; reset and dispose', async () => {
    const conversation = loader.conversation()
    const first = conversation.send('Spell lamp.')
    // Nothing runs before it is read.
    expect(conversation.turns).toEqual([])
    await first.next()
    await expect(conversation.send('Spell lamp.').next()).rejects.toThrow(/being generated; wait for it/)
    await expect(conversation.reset()).rejects.toSatisfy((error) => isTritswapError(error, 'input'))
    await read(first)
    await conversation.reset()
    expect(conversation.turns).toEqual([])
    const [{ read: tokens }] = await read(conversation.send('Spell lamp.'))
    expect(tokens).toBe(conversation.turns[0].tokens.length)
    const second = conversation.send('Spell bread.')
    await second.next()
    await conversation.dispose()
    expect(await second.next()).toMatchObject({ done: true })
    await expect(conversation.send('Hi').next()).rejects.toSatisfy((error) =>
      isTritswapError(error, 'released'),
    )
  })

  test('goes on in another engine after the first has died', async () => {
    const conversation = loader.conversation()
    await read(conversation.send('What color is sky?'))
    page.engines.at(-1)!.crash()
    const context = contextOf(conversation)
    const [{ read: tokens }] = await read(conversation.send('Spell stone.'))
    expect(tokens).toBe(context.length + conversation.turns[2].tokens.length)
    expect(conversation.turns[3].content).toBe('s t o n e')
  })
})

describe('generate', () => {
  const messages = [{ role: 'user', content: 'Count from two to seven.' }] as const

  test('has its result without a reader, who may still come', async () => {
    const generation = loader.generate(messages)
    const result = await generation.result
    expect(result).toMatchObject({
      text: 'two, three, four, five, six, seven.',
      finishReason: 'stop',
      usage: { promptTokens: model.chat.encode(messages).length },
    })
    expect(result.usage.tokensPerSecond).toBeGreaterThan(0)
    const tokens = await read(generation)
    expect(tokens.map(({ text }) => text).join('')).toBe(result.text)
    expect(result.usage.newTokens).toBe(tokens.length)
    expect(await generation.next()).toEqual({ done: true, value: result })
  })

  test('left by its reader has what was read', async () => {
    const generation = loader.generate(messages)
    let text = ''
    for await (const token of generation) {
      text += token.text
      if (text.length > 5) break
    }
    expect(await generation.result).toMatchObject({ text, finishReason: 'aborted' })
    const unread = loader.generate(messages)
    await unread.return()
    expect(await unread.result).toMatchObject({ text: '', finishReason: 'aborted', usage: { newTokens: 0 } })
  })

  test('an error is told once to its reader, and to whoever asks for the result', async () => {
    const generation = loader.generate([])
    await expect(generation.next()).rejects.toThrow(/expected a list/)
    expect(await generation.next()).toMatchObject({ done: true })
    await expect(generation.result).rejects.toThrow(/expected a list/)
    await expect(loader.generate('x', { system: 'Be brief.' }).next()).rejects.toThrow(/give messages/)
  })

  test('begins with the system text of the call, the registry, the file, in this order', async () => {
    const systemOf = async (options: object, chat: Parameters<ExpertLoader['generate']>[0] = messages) => {
      const { usage } = await loader.generate(chat, { maxNewTokens: 1, ...options }).result
      const plain = model.chat.encode(messages).length
      return usage.promptTokens - plain
    }
    const length = (content: string) =>
      model.chat.encode([{ role: 'system', content }, ...messages]).length -
      model.chat.encode(messages).length
    const a = await loader.load({
      source: 'a.trit',
      id: 'a',
      system: 'From the registry.',
      generation: { maxNewTokens: 3 },
    })
    expect(a).toMatchObject({ system: 'From the registry.', generation: { maxNewTokens: 3 } })
    expect(await systemOf({})).toBe(0)
    expect(await systemOf({ experts: a })).toBe(length('From the registry.'))
    expect(await systemOf({ experts: a, system: 'Mine' })).toBe(length('Mine'))
    expect(await systemOf({ experts: a, system: '' })).toBe(0)
    expect(await systemOf({ experts: a, system: undefined })).toBe(length('From the registry.'))
    expect(await systemOf({ experts: a }, [{ role: 'system', content: 'Own' }, ...messages])).toBe(
      length('Own'),
    )
    expect((await loader.generate(messages, { experts: a }).result).usage.newTokens).toBe(3)
    expect((await loader.generate(messages, { experts: a, maxNewTokens: 5 }).result).usage.newTokens).toBe(5)
    await loader.activate(a)
    expect(await systemOf({})).toBe(length('From the registry.'))
    expect(await systemOf({ experts: [] })).toBe(0)
    await a.release()
    expect((await loader.generate(messages).result).text).toBe('two, three, four, five, six, seven.')
    await expect(loader.generate(messages, { experts: a }).next()).rejects.toThrow(/was released/)
  })

  test('of several experts the heaviest says how', async () => {
    const load = (id: string, system: string) => loader.load({ source: `${id}.trit`, id, system })
    const [a, b] = [await load('a', 'The lighter one.'), await load('b', 'The heavier one.')]
    const mix = [
      { expert: a, weight: 0.4 },
      { expert: b, weight: -0.6 },
    ]
    const { usage } = await loader.generate(messages, { experts: mix, maxNewTokens: 1 }).result
    const chat = [{ role: 'system', content: 'The heavier one.' } as const, ...messages]
    expect(usage.promptTokens).toBe(model.chat.encode(chat).length)
  })
})
