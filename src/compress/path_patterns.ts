/**
 * Patterns that `peft` matches module paths with, in its order and with its meaning.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import { PatternError, translatePythonRegex } from './python_regex.ts'

/** Longer patterns, and more of them, than any configuration in use has. */
const MAX_PATTERN_LENGTH = 1024
const MAX_PATTERNS = 65_536
/** Steps that all patterns of one field may take: 3 seconds at most. */
const MAX_STEPS = 2 ** 28
/** Steps of a match that compiling one instruction of its program is worth. */
const COMPILE_STEPS = 1000

/** Where patterns come from, for messages. */
export interface PatternField {
  /** Of the adapter. */
  name: string
  field: string
}

type Matcher = (path: string) => boolean

interface Entry {
  key: string
  value: number
  matches: Matcher
}

/** A key without special characters but the dot, which means any character. */
const PLAIN = /^[A-Za-z0-9_.]*$/
/** JSON objects give these keys out first, whatever their place in the text. */
const INDEX_KEY = /^(0|[1-9]\d{0,9})$/

/**
 * Values by patterns, as in `rank_pattern`: the first whose key matches the end of a path, at its start or after a
 * dot (`get_pattern_key`: `re.match(rf"(.*\.)?({key})$", path)`).
 */
export class PathPatterns {
  readonly #where: PatternField
  readonly #entries: readonly Entry[]
  readonly #hasIndexKeys: boolean
  readonly #known = new Map<string, number | undefined>()

  private constructor(where: PatternField, entries: readonly Entry[]) {
    this.#where = where
    this.#entries = entries
    this.#hasIndexKeys = entries.length > 1 && entries.some(({ key }) => INDEX_KEY.test(key))
  }

  /** @throws {TritswapError} `unsupported` for patterns that cannot be translated, `limit` for too many */
  static async compile(patterns: readonly (readonly [string, number])[], where: PatternField) {
    if (patterns.length > MAX_PATTERNS) throw tooMuch(where, `has ${patterns.length} patterns`)
    const steps = new Steps(where)
    const entries: Entry[] = []
    for (const [key, value] of patterns) {
      const matches = PLAIN.test(key)
        ? plainMatcher(key, steps)
        : await compile({ pattern: `(.*\\.)?(${key})$`, shown: key, isWhole: false }, where, steps)
      entries.push({ key, value, matches })
    }
    return new PathPatterns(where, entries)
  }

  /** @throws {TritswapError} `limit` for more work than the patterns of any adapter in use make */
  valueOf(path: string): number | undefined {
    if (!this.#known.has(path)) this.#known.set(path, this.#find(path))
    return this.#known.get(path)
  }

  #find(path: string): number | undefined {
    const found = []
    for (const { key, value, matches } of this.#entries) {
      if (!matches(path)) continue
      if (!this.#hasIndexKeys) return value
      found.push({ key, value })
    }
    const [first] = found
    const other = found.find(({ value }) => value !== first.value)
    if (other === undefined) return first?.value
    throw new TritswapError(
      'unsupported',
      `Cannot read ${this.#where.name}: ${first.key} and ${other.key} in ${this.#where.field} both match ${path}, and JSON keeps no order for keys that are numbers; name the module in full in one of them`,
      { fields: { ...this.#where, path, keys: [first.key, other.key] } },
    )
  }
}

/** `re.fullmatch`. @throws {TritswapError} `unsupported` for a pattern that cannot be translated */
export function wholePathMatcher(pattern: string, where: PatternField): Promise<Matcher> {
  return compile({ pattern, shown: pattern, isWhole: true }, where, new Steps(where))
}

/** Counts the work of a field's patterns, so that none can run forever. */
class Steps {
  readonly #where: PatternField
  #left = MAX_STEPS

  constructor(where: PatternField) {
    this.#where = where
  }

  take(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) throw tooMuch(this.#where, 'takes too long to match')
  }
}

function plainMatcher(key: string, steps: Steps): Matcher {
  return (path) => {
    const start = path.length - key.length
    steps.take(1)
    if (start < 0 || (start > 0 && path.charCodeAt(start - 1) !== 0x2e)) return false
    steps.take(key.length)
    for (let i = key.length - 1; i >= 0; i--) {
      const wanted = key.charCodeAt(i)
      if (wanted !== 0x2e && wanted !== path.charCodeAt(start + i)) return false
    }
    return true
  }
}

async function compile(
  { pattern, shown, isWhole }: { pattern: string; shown: string; isWhole: boolean },
  where: PatternField,
  steps: Steps,
): Promise<Matcher> {
  const refuse = (why: string, cause?: unknown) =>
    new TritswapError(
      'unsupported',
      `Cannot read ${where.name}: the pattern ${shown.slice(0, 120)} in ${where.field} ${why}; write it in plain terms in adapter_config.json, such as the names of the modules it means`,
      { fields: { ...where, pattern: shown }, cause },
    )
  if (shown.length > MAX_PATTERN_LENGTH)
    throw refuse(`has ${shown.length} characters, over ${MAX_PATTERN_LENGTH}`)
  // Loaded only for the adapters that need it.
  const { RE2JS } = await import('re2js')
  try {
    const { source, asciiOnly } = translatePythonRegex(pattern)
    const compiled = RE2JS.compile(source)
    const size = compiled.programSize()
    steps.take(size * COMPILE_STEPS)
    return (path) => {
      steps.take(size * path.length)
      if (/[\r\n]/.test(path) || (asciiOnly && /[^\0-\x7f]/.test(path))) {
        throw refuse(`cannot be matched with the module ${JSON.stringify(path)}`)
      }
      return isWhole ? compiled.testExact(path) : compiled.test(path)
    }
  } catch (cause) {
    if (isTritswapError(cause)) throw cause
    if (cause instanceof PatternError) throw refuse(cause.message, cause)
    throw refuse(`is too much for a linear-time engine (${(cause as Error).message})`, cause)
  }
}

function tooMuch({ name, field }: PatternField, what: string): TritswapError {
  return new TritswapError('limit', `Cannot read ${name}: its ${field} ${what}`, { fields: { name, field } })
}
