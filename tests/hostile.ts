/**
 * Hostile input from a seed: what fuzz tests of several rooms share.
 *
 * @module
 */
import { isTritswapError } from '../src/errors.ts'
import { randomFrom } from './format/samples.ts'

export type Random = () => number
export const below = (random: Random, n: number) => Math.floor(random() * n)
export const pick = <T>(random: Random, choices: readonly T[]): T => choices[below(random, choices.length)]

/** Values and texts that readers stumble over. */
const VALUES = [
  null,
  true,
  false,
  0,
  -0,
  1,
  2,
  -1,
  0.5,
  1e308,
  2 ** 31,
  2 ** 53,
  2 ** 64,
  '',
  'w',
  '__proto__',
  '__metadata__',
  'LORA',
  'IA3',
  'lora',
  'F32',
  'F8_E4M3',
  '../../etc/passwd',
  '\u0000',
  '\u001b[2J',
  '(a+)+X',
  '(?i)q',
  '\\Z',
  '[',
  'a{,2}',
  '(?=x)',
  'x'.repeat(600),
  [],
  [0],
  [[]],
  {},
  { a: 1 },
]

/** A copy with something exchanged, left out or added in one of its places. */
function mutate(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random() < 0.1) return pick(random, VALUES)
  const entries = Object.entries(value)
  if (Array.isArray(value)) {
    const copy = [...value]
    const at = below(random, copy.length + 1)
    if (random() < 0.3) copy.splice(at, 1)
    else copy[at] = mutate(random, copy[at])
    return copy
  }
  const at = below(random, entries.length + 1)
  if (at === entries.length) return { ...value, [String(pick(random, VALUES))]: pick(random, VALUES) }
  const [key, inner] = entries[at]
  const rest = Object.fromEntries(entries.filter((_, i) => i !== at))
  if (random() < 0.1) return rest
  return { ...rest, [random() < 0.1 ? String(pick(random, VALUES)) : key]: mutate(random, inner) }
}

/** Bytes of JSON, at times cut, repeated or with a byte changed. */
export function jsonBytes(random: Random, value: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(value) ?? 'null'
  const choice = random()
  const hostile =
    choice < 0.05
      ? text.slice(0, below(random, text.length + 1))
      : choice < 0.08
        ? pick(random, ['[', '{"a":', '"', '[[],']).repeat(below(random, 5000)) + text
        : text
  const bytes = new TextEncoder().encode(hostile) as Uint8Array<ArrayBuffer>
  if (choice > 0.95 && bytes.length > 0) bytes[below(random, bytes.length)] = below(random, 256)
  return bytes
}

export const mutated = (random: Random, value: unknown) => {
  let result = value
  for (let count = below(random, 4); count > 0; count--) result = mutate(random, result)
  return result
}

/** Texts with characters exchanged, left out, doubled or put in. */
export function mutatedText(random: Random, text: string): string {
  let result = text
  for (let count = below(random, 5); count > 0; count--) {
    const at = below(random, result.length + 1)
    const inserted = random() < 0.5 ? String(pick(random, VALUES)) : pick(random, MARKS)
    result = result.slice(0, at) + inserted + result.slice(at + below(random, 3))
  }
  return result
}

/** What addresses, headers and names are made of, in the wrong places. */
const MARKS = [
  '/',
  '..',
  '.',
  '@',
  ':',
  '%',
  '%2e',
  '%00',
  '#',
  '?',
  '&',
  '=',
  ',',
  ' ',
  '\\',
  '[',
  '-',
  '*',
  '0',
  '9'.repeat(30),
  'é',
  '\ud800',
]

/** Runs cases from `from` while `proceed` says so; each depends on the seed and its index alone. */
export function fuzzOf(kinds: readonly ((random: Random) => Promise<void>)[], tags: readonly string[]) {
  return async (seed: number, proceed: (index: number) => boolean, from = 0) => {
    const outcomes: Record<string, number> = {}
    const failures: { index: number; error: unknown }[] = []
    let at = from
    for (; proceed(at); at++) {
      const random = randomFrom(seed * 1_000_003 + at)
      let outcome = 'read'
      try {
        await kinds[at % kinds.length](random)
      } catch (error) {
        outcome = isTritswapError(error) && tags.includes(error.tag) ? error.tag : 'failure'
        if (outcome === 'failure') failures.push({ index: at, error })
      }
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    }
    return { cases: at - from, outcomes, failures }
  }
}
