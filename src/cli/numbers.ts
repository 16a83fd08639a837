/**
 * Numbers of the command line, as people write them.
 *
 * @module
 */
import { UsageError } from './command.ts'

/** @throws {UsageError} naming the flag, what it takes and what it got */
export function number(text: string, flag: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (!Number.isFinite(value)) throw new UsageError(`Cannot use ${flag} ${text}: expected a number`)
  return value
}

/** A fraction, or a percentage: `0.05` and `5%` are the same. */
export function fraction(text: string, flag: string): number {
  const [, percent] = /^(.+?)\s*%$/.exec(text.trim()) ?? []
  if (percent === undefined) return number(text, flag)
  const value = Number(percent)
  if (!Number.isFinite(value)) throw new UsageError(`Cannot use ${flag} ${text}: expected a number before %`)
  // 100 divides as people mean it: 7 % is 0.07, and not 0.07000000000000001.
  return value / 100
}

export function density(text: string, flag: string): number {
  const value = fraction(text, flag)
  if (value > 0 && value <= 1) return value
  const meant = value > 1 && value <= 100 ? `; ${text} % is ${text}%` : ''
  throw new UsageError(
    `Cannot use ${flag} ${text}: expected a fraction over 0 and up to 1, such as 0.05 or 5%${meant}`,
  )
}

export function alpha(text: string, flag: string): number {
  const value = number(text, flag)
  if (value > 0) return value
  throw new UsageError(`Cannot use ${flag} ${text}: expected a number over 0`)
}

export function wholeNumber(text: string, flag: string, least: number): number {
  const value = number(text, flag)
  if (Number.isInteger(value) && value >= least) return value
  throw new UsageError(`Cannot use ${flag} ${text}: expected a whole number from ${least}`)
}

/** A size as people write it: 70000, 70kB, 1.5MB. */
export function byteSize(text: string, flag: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?(?:e\d+)?) *(k?B?|MB?|GB?)$/i.exec(text.trim()) ?? []
  const factor = { '': 1, b: 1, k: 1e3, kb: 1e3, m: 1e6, mb: 1e6, g: 1e9, gb: 1e9 }[
    unit?.toLowerCase() ?? '-'
  ]
  if (factor === undefined) throw new UsageError(`Cannot use ${flag} ${text}: expected a size such as 70kB`)
  return Number(count) * factor
}

/** A parser of one argument for commander, which calls it with the earlier value as well. */
export function parsed<T>(parse: (text: string, flag: string) => T, flag: string): (text: string) => T {
  return (text) => parse(text, flag)
}

/** The same for numbers with commas between. */
export function listOf<T>(parse: (text: string, flag: string) => T, flag: string): (text: string) => T[] {
  return (text) => text.split(',').map((item) => parse(item, flag))
}
