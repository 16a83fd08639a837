/**
 * Checked access to JSON that came from the network: every reader returns a value of the type it names or throws
 * a `format` error that says which field is wrong, what it should be and what it is (`limit` for sizes).
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { MAX_TEXT_LENGTH } from './limits.ts'

/** The error of a field that does not hold what it must. */
export function invalid(field: string, expected: string, found: unknown): TritswapError {
  const shown = show(found)
  return new TritswapError('format', `Cannot read ${field}: expected ${expected}, found ${shown}`, {
    fields: { field, expected, found: shown },
  })
}

/** A value in a few characters. Never a whole list or object: hostile ones are deeper than the stack. */
function show(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80))
  return value === undefined ? 'nothing' : String(value)
}

/** The error of a number that is larger than this implementation takes. */
export function overLimit(field: string, found: number, limit: number): TritswapError {
  return new TritswapError('limit', `Cannot read ${field}: ${found} is over the limit of ${limit}`, {
    fields: { field, found, limit },
  })
}

export function object(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(field, 'an object', value)
  return value as Record<string, unknown>
}

/** A list of at most `limit` items. */
export function array(value: unknown, field: string, limit: number): unknown[] {
  if (!Array.isArray(value)) throw invalid(field, 'a list', value)
  if (value.length > limit) throw overLimit(`length of ${field}`, value.length, limit)
  return value
}

/** A text of at most `limit` UTF-16 code units. */
export function text(value: unknown, field: string, limit = MAX_TEXT_LENGTH): string {
  if (typeof value !== 'string') throw invalid(field, 'a text', value)
  if (value.length > limit) throw overLimit(`length of ${field}`, value.length, limit)
  return value
}

/** A number that is finite as an f32. */
export function number(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isFinite(Math.fround(value)))
    throw invalid(field, 'a finite number', value)
  return value
}

export function integer(value: unknown, field: string, least: number, most: number): number {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    throw invalid(field, `a whole number from ${least} to ${most}`, value)
  }
  return value as number
}

export function oneOf<const T extends string>(value: unknown, field: string, choices: readonly T[]): T {
  if (!choices.includes(value as T)) throw invalid(field, choices.join(' or '), value)
  return value as T
}

export function optionalText(value: unknown, field: string): string | undefined {
  return value === undefined ? undefined : text(value, field)
}

export function optionalNumber(value: unknown, field: string): number | undefined {
  return value === undefined ? undefined : number(value, field)
}

/** SHA-256 as 64 lower-case hex digits. */
export function optionalHash(value: unknown, field: string): string | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) throw invalid(field, '64 hex digits', value)
  return value
}

/** A tensor shape: at most `rank` sizes of at least 1 with a product of at most `weights`. */
export function shapeOf(value: unknown, field: string, rank: number, weights: number): number[] {
  const shape = array(value, field, rank).map((size, i) => integer(size, `${field}[${i}]`, 1, weights))
  const product = shape.reduce((all, size) => all * size, 1)
  if (product > weights) throw overLimit(`weights of ${field}`, product, weights)
  return shape
}
