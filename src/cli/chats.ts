import type { ChatTemplate } from '../engine/chat_template.ts'
import type { ChatMessage } from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'
import type { Example } from './decoder.ts'

/** A chat whose last message is the answer that is wanted. */
export type Chat = readonly ChatMessage[]

/**
 * Chats of a file of JSON lines, `{"user", "assistant"}` with an optional `"system"`, or `{"messages"}`.
 * @param name - of the file, for messages
 * @throws {TritswapError} `input` naming the line that is no such chat
 */
export function parseChats(text: string, name: string): Chat[] {
  const chats = text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    const chat = chatOf(line)
    if (chat !== undefined) return [chat]
    throw new TritswapError(
      'input',
      `Cannot read line ${i + 1} of ${name}: expected {"user", "assistant"} or {"messages"} that end with the assistant's, found ${line.slice(0, 80)}`,
      { fields: { file: name, line: i + 1 } },
    )
  })
  if (chats.length > 0) return chats
  throw new TritswapError('input', `Cannot score ${name}: it has no chats`, { fields: { file: name } })
}

function chatOf(line: string): Chat | undefined {
  let value: { user?: unknown; assistant?: unknown; system?: unknown; messages?: unknown } | null
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { user, assistant, system, messages } = value
  const chat: unknown[] = Array.isArray(messages)
    ? messages
    : [
        ...(system === undefined ? [] : [{ role: 'system', content: system }]),
        { role: 'user', content: user },
        { role: 'assistant', content: assistant },
      ]
  if (!chat.every(isMessage) || chat.length < 2 || chat.at(-1)?.role !== 'assistant') return undefined
  return chat
}

const ROLES = ['system', 'user', 'assistant']

function isMessage(value: unknown): value is ChatMessage {
  if (typeof value !== 'object' || value === null) return false
  const { role, content } = value as Partial<Record<keyof ChatMessage, unknown>>
  return typeof content === 'string' && typeof role === 'string' && ROLES.includes(role)
}

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
