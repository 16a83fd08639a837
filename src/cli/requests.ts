import { basename } from 'node:path'
import { TritswapError } from '../errors.ts'
import { UsageError } from './command.ts'
import { readText } from './file_source.ts'

/** Words of a passage: about what people give a model to go on from. */
const PASSAGE_WORDS = 40

/**
 * Requests of a file: the last user's message of each JSON line, `{"user"}` or `{"messages"}`; of a text, its passages.
 * @throws {TritswapError} `input` naming the line that holds no request
 */
async function readRequests(path: string): Promise<string[]> {
  const text = await readText(path)
  const requests = /\.(jsonl|ndjson|json)$/.test(path) ? requestsIn(text, path) : passagesIn(text)
  if (requests.length > 0) return requests
  throw new TritswapError('input', `Cannot use ${path}: it holds no requests`, { fields: { file: path } })
}

function requestsIn(text: string, path: string): string[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    const request = requestOf(line)
    if (request !== undefined) return [request]
    throw new TritswapError(
      'input',
      `Cannot read line ${i + 1} of ${path}: expected {"user"} or {"messages"}, found ${line.slice(0, 80)}`,
      { fields: { file: path, line: i + 1 } },
    )
  })
}

function requestOf(line: string): string | undefined {
  try {
    const value = JSON.parse(line) as
      | { user?: unknown; messages?: { role?: unknown; content?: unknown }[] }
      | string
      | null
    if (typeof value === 'string') return value
    const messages = Array.isArray(value?.messages) ? value.messages : []
    const request = value?.user ?? messages.findLast(({ role }) => role === 'user')?.content
    return typeof request === 'string' ? request : undefined
  } catch {
    return undefined
  }
}

/** A text cut into pieces of {@link PASSAGE_WORDS}, line breaks kept. */
function passagesIn(text: string): string[] {
  const words = text.match(/\S+\s*/g) ?? []
  const passages: string[] = []
  for (let at = 0; at < words.length; at += PASSAGE_WORDS) {
    const passage = words.slice(at, at + PASSAGE_WORDS)
    if (passage.length >= PASSAGE_WORDS / 2 || at === 0) passages.push(passage.join('').trimEnd())
  }
  return passages.filter(Boolean)
}

/** Files given as `<id>=<path>`, or a path whose name is the id; those of one id together. @throws {UsageError} */
export async function requestsById(given: readonly string[]): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>()
  for (const one of given) {
    const [, id = basename(one).replace(/\.[^.]+$/, ''), path = one] =
      /^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$/.exec(one) ?? []
    if (path === '') throw new UsageError(`Cannot read requests: expected <id>=<file>, found ${one}`)
    found.set(id, [...(found.get(id) ?? []), ...(await readRequests(path))])
  }
  return found
}
