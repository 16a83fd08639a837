/**
 * The bundled instruct model itself, in Node on wasm: the same as `chat.test.ts`, on 135 M weights. In the long tier, or
 * with the folder of the prepared base in SMOLLM2; CHATS is how many.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { openPreparedModel } from '../../src/cli/prepared_base.ts'
import type { ChatMessage } from '../../src/engine/protocol.ts'
import { hoistedSession, type OrtSession } from '../../src/model/hoisted_session.ts'
import { externalFilesOf } from '../../src/onnx/index.ts'
import { openOnCpu, plainPipeline } from './chat_models.ts'

const { SMOLLM2, LONG, CHATS = '20' } = process.env
const FOLDER = SMOLLM2 ?? fileURLToPath(new URL('../../public/models/smollm2/', import.meta.url))
const TOKENS = 16

const ASKED = [
  'What is a river?',
  'Name three colors.',
  'Translate "good morning" into French.',
  'Write one sentence about the sea.',
  'What is 2 + 2?',
  'Who wrote Hamlet?',
  'Give me a word that rhymes with "light".',
  'Is the earth flat?',
  'Explain photosynthesis briefly.',
  'List two planets.',
]
const CHATTED: ChatMessage[][] = ASKED.flatMap((content, at): ChatMessage[][] => [
  [{ role: 'user', content }],
  [
    { role: 'system', content: 'Answer in one short sentence.' },
    { role: 'user', content },
    { role: 'assistant', content: 'I am not sure.' },
    { role: 'user', content: ASKED[(at + 3) % ASKED.length] },
  ],
]).slice(0, Number(CHATS))

test.runIf((LONG || SMOLLM2) && existsSync(`${FOLDER}/tritswap.json`))(
  'SmolLM2: greedy answers are those of an unmodified pipeline, and a conversation is a fresh reading',
  async () => {
    const { weights, graphs } = await openPreparedModel(FOLDER)
    const [{ graph }] = graphs
    const { Tensor } = await import('@xenova/transformers')
    const feeds = new Map(
      Array.from(weights.feeds(graph.file), ([name, { dtype, dims, data }]) => [
        name,
        new Tensor(dtype as 'float32', data as Float32Array, [...dims]).ort_tensor as never,
      ]),
    )
    const fed = (session: OrtSession) => hoistedSession(session, feeds, (run) => run())
    const model = await openOnCpu(`${FOLDER}/`, {}, { externalFiles: externalFilesOf(graph) })
    const sessions = { model: fed(model.sessions.model) }
    const pipeline = await plainPipeline()
    // The graph has no weights: what stands for the session feeds them.
    Object.assign(pipeline.model.sessions, { model: fed(pipeline.model.sessions.model as OrtSession) })
    const cache = model.newCache()
    for (const chat of CHATTED) {
      const generate = async (ids: number[], kept = false) => {
        const tokens: number[] = []
        const onToken = (token: number) => {
          tokens.push(token)
          return false
        }
        const context = kept ? { cache } : {}
        await model.generate({ ids }, sessions, onToken, { maxNewTokens: TOKENS }, context)
        return tokens
      }
      const { ids } = model.encodePrompt(chat, {})
      const tokens = await generate(ids, true)
      const [{ generated_text: said }] = (await pipeline(chat as never, {
        max_new_tokens: TOKENS,
      })) as unknown as [{ generated_text: ChatMessage[] }]
      expect(model.decode(tokens)).toBe(said.at(-1)?.content)
      const asked: ChatMessage[] = [
        ...chat,
        { role: 'assistant', content: '' },
        { role: 'user', content: 'Why?' },
      ]
      const next = [...ids, ...tokens, ...model.chat.encodeNext(asked, tokens.at(-1))]
      expect(await generate(next, true)).toEqual(await generate(next))
    }
    await model.dispose()
  },
  3_600_000,
)
