import type { Chat } from '../engine/answered_example.ts'
import type { ChatMessage } from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'

/**
 * Chats of a file of JSON lines, `{"user", "assistant"}` with an optional `"system"`, or `{"messages"}`.
 * @param name - of the file, for messages
 * @throws {TritswapError} `input` naming the line that is not such a chat
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
