/**
 * JSON from untrusted files. A parsed value takes up to 450 times the memory of its text where brackets nest, so depth and
 * number of values are counted before parsing.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { mistakenFile, TELLING_BYTES } from './mistaken_file.ts'

export interface JsonLimits {
  /** Brackets that may be open at once. */
  depth: number
  /** Values, those inside of others included. */
  values: number
}

const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d]

/**
 * Parses the bytes of a JSON file.
 * @param name - of the file, for messages
 * @throws {TritswapError} `format` for what is not JSON, `limit` for what is over a limit
 */
function parseJson(bytes: Uint8Array, name: string, limits: JsonLimits): unknown {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw notJson(name, mistakenFile(bytes) ?? 'it is not UTF-8 text', cause)
  }
  return parseJsonText(text, name, limits)
}

/** The same for text. */
export function parseJsonText(text: string, name: string, limits: JsonLimits): unknown {
  checkSize(text, name, limits)
  try {
    return JSON.parse(text)
  } catch (cause) {
    const start = new TextEncoder().encode(text.slice(0, TELLING_BYTES))
    throw notJson(name, mistakenFile(start) ?? 'it is not JSON', cause)
  }
}

/** The same, of a file that is one object. */
export function parseJsonObject(
  bytes: Uint8Array,
  name: string,
  limits: JsonLimits,
): Record<string, unknown> {
  const value = parseJson(bytes, name, limits)
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  const found = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`
  throw new TritswapError('format', `Cannot read ${name}: expected a JSON object, found ${found}`, {
    fields: { name },
  })
}

/** Every value but the first of its list or object follows a comma, and every list or object may hold a first one. */
function checkSize(text: string, name: string, { depth, values }: JsonLimits): void {
  let open = 0
  let count = 1
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (char === QUOTE) {
      while (++i < text.length && text.charCodeAt(i) !== QUOTE) if (text.charCodeAt(i) === BACKSLASH) i++
    } else if (char === OPEN_LIST || char === OPEN_OBJECT) {
      count++
      if (++open > depth) throw overLimit(name, `nests over ${depth} brackets`)
    } else if (char === CLOSE_LIST || char === CLOSE_OBJECT) open--
    else if (char === COMMA) count++
    if (count > values) throw overLimit(name, `holds over ${values} values`)
  }
}

function notJson(name: string, why: string, cause: unknown): TritswapError {
  return new TritswapError('format', `Cannot read ${name}: ${why}`, { fields: { name }, cause })
}

function overLimit(name: string, what: string): TritswapError {
  return new TritswapError('limit', `Cannot read ${name}: its JSON ${what}`, { fields: { name } })
}
