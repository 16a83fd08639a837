/**
 * The bundled skill `tools` on SmolLM2, in Node on wasm: with a schema every answer is a call that can be made, whatever
 * is drawn. In the long tier, and no more than three answers: a token takes a quarter of a second where nothing else runs.
 * REQUESTS is a file of {"user", "assistant"} lines, of which COUNT are asked and counted.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Ajv } from 'ajv'
import { expect, test, vi } from 'vitest'
import { openFile } from '../../src/cli/file_source.ts'
import { openPreparedModel } from '../../src/cli/prepared_base.ts'
import type { GenerateOptions, JsonSchema } from '../../src/engine/protocol.ts'
import { hoistedSession } from '../../src/model/hoisted_session.ts'
import { externalFilesOf } from '../../src/onnx/index.ts'
import { ReferenceBase, readExpert } from '../../src/reference/index.ts'
import { LONG } from '../tier.ts'
import { openOnCpu } from './chat_models.ts'

const { REQUESTS, COUNT = '12' } = process.env
const publicFile = (path: string) => fileURLToPath(new URL(`../../public/${path}`, import.meta.url))
const FOLDER = publicFile('models/smollm2/')
const SCRIPT = pathToFileURL(createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar')).href
// The library looks for the address of its script as browsers have it.
vi.stubGlobal('location', { href: SCRIPT })

const TEXT = { type: 'string', maxLength: 40 }
const TIME = { type: 'string', pattern: '([01][0-9]|2[0-3]):[0-5][0-9]' }
const COUNTED = { type: 'integer', minimum: 1, maximum: 200000 }

/** One call: its name, and arguments in the order in which the skill writes them. */
function call(tool: string, args: Record<string, JsonSchema>, optional: readonly string[] = []): JsonSchema {
  const required = ['tool', ...Object.keys(args).filter((name) => !optional.includes(name))]
  return {
    type: 'object',
    properties: { tool: { const: tool }, ...args },
    required,
    additionalProperties: false,
  }
}

const CALLS: JsonSchema = {
  anyOf: [
    call('call.start', { to: TEXT, speaker: { type: 'boolean' } }),
    call('route.find', { to: TEXT, by: { enum: ['train', 'bike', 'car', 'foot'] } }),
    call('event.add', { title: TEXT, who: TEXT, day: TEXT, time: TIME }, ['who']),
    call('translate', { text: TEXT, to: TEXT }),
    call('alarm.set', { time: TIME, day: { enum: ['today', 'tomorrow'] } }),
    call('list.add', { item: TEXT, count: COUNTED }),
    call('volume.set', { percent: COUNTED }),
    call('light.set', { room: TEXT, on: { type: 'boolean' } }),
    call('reminder.add', { text: TEXT, day: TEXT, time: TIME }),
    call('message.send', { to: TEXT, text: TEXT }),
    call('weather.get', { city: TEXT, day: TEXT }),
    call('heating.set', { room: TEXT, celsius: COUNTED }),
    call('timer.start', { seconds: COUNTED }),
    call('music.play', { what: TEXT, room: TEXT }),
  ],
}

/** Tokens that the longest of these answers has room for. */
const ROOM = 64

/** What is asked with the skill or without it, and how the answer is drawn. */
const ASKED = [
  { content: 'please phone Marta', sessions: 'skilled', temperature: 0 },
  { content: 'two eggs on the list', sessions: 'skilled', temperature: 1, seed: 1 },
  { content: 'how do I walk to Bergen', sessions: 'alone', temperature: 0 },
] as const

async function openWithSkill() {
  const { weights, graphs, manifest } = await openPreparedModel(FOLDER)
  const { fingerprint, dtype } = manifest
  const parsed = graphs.map(({ graph }) => graph)
  const base = await ReferenceBase.create(weights, parsed, { name: FOLDER, fingerprint, dtype })
  const file = await openFile(publicFile('experts/smollm2/tools.trit'))
  const admitted = await base.admit(await readExpert(file), 'tools')
  await file.close()
  const bound = await base.bind([{ ...admitted, weight: 1 }], 'merge')
  const [graph] = parsed
  const model = await openOnCpu(FOLDER, {}, { externalFiles: externalFilesOf(graph!), grammar: SCRIPT })
  const { Tensor } = await import('@xenova/transformers')
  const sessionsOf = (experts?: typeof bound) => {
    const { feeds } = base.feeds(graph!.file, experts)
    const tensors = Array.from(feeds, ([name, { dtype, dims, data }]) => {
      const tensor = new Tensor(dtype as 'float32', data as Float32Array, [...dims])
      return [name, tensor.ort_tensor as never] as const
    })
    return { model: hoistedSession(model.sessions.model!, new Map(tensors), (run) => run()) }
  }
  return { model, alone: sessionsOf(), skilled: sessionsOf(bound) }
}

test.runIf(LONG && existsSync(`${FOLDER}/tritswap.json`))(
  'every answer is a call, greedy and drawn, with the skill and without',
  async () => {
    const { model, ...opened } = await openWithSkill()
    const { alone, skilled } = opened
    const fits = new Ajv({ strict: false }).compile(CALLS)
    const answer = async (content: string, sessions: typeof alone, options: GenerateOptions) => {
      const { ids } = model.encodePrompt([{ role: 'user', content }], {})
      let text = ''
      const onToken = (_: number, piece: string) => {
        text += piece
        return false
      }
      const end = await model.generate({ ids }, sessions, onToken, {
        maxNewTokens: ROOM,
        temperature: 0,
        ...options,
      })
      return { text, end }
    }
    const responseFormat = { type: 'json_schema', schema: CALLS } as const
    for (const { content, sessions, ...drawn } of ASKED) {
      const { text, end } = await answer(content, opened[sessions], { responseFormat, ...drawn })
      expect({ text, end, fits: isCall(text) }).toEqual({ text, end: 'stop', fits: true })
    }
    if (REQUESTS === undefined) return
    const lines = readFileSync(REQUESTS, 'utf8').split('\n').filter(Boolean).slice(0, Number(COUNT))
    const counted = { alone: [0, 0], skilled: [0, 0], free: [0, 0] }
    for (const line of lines) {
      const { user, assistant } = JSON.parse(line) as Record<'user' | 'assistant', string>
      const tries = {
        alone: await answer(user, alone, { responseFormat }),
        skilled: await answer(user, skilled, { responseFormat }),
        free: await answer(user, skilled, {}),
      }
      for (const [name, { text }] of Object.entries(tries)) {
        const count = counted[name as keyof typeof tries]
        if (isCall(text)) count[0]! += 1
        if (text === assistant) count[1]! += 1
      }
      console.log(user, tries, counted)
    }

    function isCall(text: string): boolean {
      try {
        return fits(JSON.parse(text)) === true
      } catch {
        return false
      }
    }
  },
  900_000,
)
