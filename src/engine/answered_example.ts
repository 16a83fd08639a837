import { TritswapError } from '../errors.ts'
import type { ChatTemplate } from './chat_template.ts'
import type { ChatMessage } from './protocol.ts'

/** A sequence of tokens of which those from `first` on are predicted; `first` is at least 1. */
export interface Example {
  ids: readonly number[]
  first: number
}

/** A chat whose last message is the answer that is wanted. */
export type Chat = readonly ChatMessage[]

/**
 * A chat as the model reads it, its answer predicted up to the token that closes it, which is what stops a generation.
 * @param system - of the skill; the chat's own system message goes before it
 * @throws {TritswapError} `unsupported` without a chat template, `input` for a chat that it refuses or leaves out
 */
export function chatExample(chat: Chat, template: ChatTemplate, system?: string): Example {
  const messages: Chat =
    system === undefined || chat[0].role === 'system' ? chat : [{ role: 'system', content: system }, ...chat]
  const ids = template.encodeAnswered(messages)
  const prompt = template.encode(messages.slice(0, -1))
  const first = commonPrefix([ids, prompt]).length
  if (first > 0 && first < ids.length) return { ids, first }
  throw new TritswapError(
    'input',
    `Cannot score a chat: the chat template gives the answer ${JSON.stringify(chat.at(-1)!.content.slice(0, 80))} no tokens of its own`,
  )
}

/** What all sequences begin with. */
export function commonPrefix(sequences: readonly (readonly number[])[]): number[] {
  const [shortest = []] = [...sequences].sort((a, b) => a.length - b.length)
  let length = 0
  while (length < shortest.length && sequences.every((ids) => ids[length] === shortest[length])) length++
  return shortest.slice(0, length)
}
