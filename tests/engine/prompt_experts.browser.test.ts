import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Expert, ExpertLoader } from '../../src/loader/index.ts'
import { ANSWERS, LENGTH, type PromptKind, promptExpert, REQUEST } from './tiny_prompts.ts'

let loader: ExpertLoader
let experts: Record<PromptKind, Expert>
beforeAll(async () => {
  loader = await ExpertLoader.create({ model: '/tests/fixtures/tiny_chat/' })
  const load = async (id: PromptKind) => loader.load({ source: (await promptExpert(id)).buffer, id })
  experts = { rows: await load('rows'), caches: await load('caches') }
})
afterAll(() => loader?.dispose())

async function tokensOf(events: AsyncIterable<{ token: number }>): Promise<number[]> {
  const tokens: number[] = []
  for await (const { token } of events) tokens.push(token)
  return tokens
}

const messages = [{ role: 'user' as const, content: REQUEST }]
const options = { maxNewTokens: LENGTH }

test('what stands before a prompt gives the answers that the CPU gives, by a call and by activation', async () => {
  const hash = await loader.hashWeights()
  for (const kind of ['rows', 'caches'] as const) {
    const own = [{ expert: experts[kind], weight: 1 }]
    expect(await tokensOf(loader.generate(messages, { ...options, experts: own }))).toEqual(ANSWERS[kind])
    await loader.activate(own)
    expect(await tokensOf(loader.generate(messages, options))).toEqual(ANSWERS[kind])
    await loader.activate([])
  }
  expect(await tokensOf(loader.generate(messages, options))).toEqual(ANSWERS.base)
  expect(await loader.hashWeights()).toBe(hash)
})

test('a conversation keeps it before all of its turns', async () => {
  for (const kind of ['rows', 'caches'] as const) {
    const own = [{ expert: experts[kind], weight: 1 }]
    await loader.activate(own)
    const chat = loader.conversation()
    expect(await tokensOf(chat.send(REQUEST, options))).toEqual(ANSWERS[kind])
    // The turn before stays in the cache, and what stood before it.
    const second: { token: number; read: number }[] = []
    for await (const event of chat.send('And again?', options)) second.push(event)
    expect(second[0].read).toBeLessThan(30)
    // Read by the base in between, all of it is read anew.
    await loader.activate([])
    await tokensOf(chat.regenerate(options))
    await loader.activate(own)
    expect(await tokensOf(chat.regenerate(options))).toEqual(second.map(({ token }) => token))
    await chat.dispose()
  }
  await loader.activate([])
})
