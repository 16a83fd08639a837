/**
 * A loader in the shape of OpenAI's API, for code that speaks it: `chat.completions.create`, and a `fetch` that answers
 * the requests of clients, such as the package `openai` and the AI SDK. Nothing leaves the page.
 *
 * ```ts
 * import { ExpertLoader } from 'tritswap'
 * import { openaiFrom } from 'tritswap/openai'
 *
 * const loader = await ExpertLoader.create({ model: './models/smollm2' })
 * const experts = { sql: await loader.load('./experts/smollm2/sql.trit') }
 * const { chat } = openaiFrom(loader, { experts })
 * const { choices } = await chat.completions.create({
 *   model: loader.info.name,
 *   messages: [{ role: 'user', content: 'Users older than 30' }],
 *   lora: [{ id: 'sql', scale: 1 }],
 * })
 * console.log(choices[0].message.content)
 * ```
 *
 * @module openai
 */
import type { ExpertLoader } from '../loader/index.ts'
import { type ChatCompletions, type ChatHost, chatCompletions } from './chat_completions.ts'
import { fetchOf } from './fetch.ts'

export type { ChatCompletions, CreateOptions, CreateParams, LoraChoice } from './chat_completions.ts'

export interface OpenaiOptions {
  /** Experts by the ids that requests name them by, in `lora` or as `model`. */
  experts?: ChatHost['experts']
}

/** A loader as OpenAI's clients see a server. */
export interface OpenaiShaped {
  chat: { completions: ChatCompletions }
  /**
   * Answers `POST …/chat/completions` and `GET …/models` of any host, and nothing else: for the option `fetch` of a
   * client. Errors are answers, as from a server.
   */
  fetch: typeof globalThis.fetch
}

/** What is needed of an {@link ExpertLoader}. */
export type OpenaiLoader = Pick<ExpertLoader, 'info' | 'generate'>

export function openaiFrom(loader: OpenaiLoader, { experts = {} }: OpenaiOptions = {}): OpenaiShaped {
  const host: ChatHost = { loader, experts }
  const completions = chatCompletions(host)
  return { chat: { completions }, fetch: fetchOf(host, completions) }
}
