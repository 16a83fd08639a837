/**
 * Regular expressions as Python's `re` reads them, written for RE2: an adapter's configuration holds the former, and
 * RE2 matches in time linear in the text, where Python and JavaScript may take exponential time. Everything that is translated
 * means the same on text without line breaks; what has no translation is refused by name.
 *
 * @module
 */

/** A pattern that Python refuses, or that RE2 cannot express; `message` completes "the pattern …". */
export class PatternError extends Error {}

export interface Re2Pattern {
  /** In RE2's syntax, for matching at the start of a text. */
  source: string
  /** It asks for letters, digits, spaces or case, which Python takes from Unicode and RE2 from ASCII. */
  asciiOnly: boolean
}

/** The largest code point, and the last one of ASCII. */
const LAST = 0x10ffff
const LAST_ASCII = 0x7f

type Range = readonly [first: number, last: number]

const DIGITS: Range[] = [[0x30, 0x39]]
const WORDS: Range[] = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]
/** Python counts the four ASCII separators among spaces, RE2 does not. */
const SPACES: Range[] = [
  [0x09, 0x0d],
  [0x1c, 0x20],
]

/** The escapes for sets of characters. Complements end with ASCII: folding case must not bring letters in from beyond. */
const SETS: Readonly<Record<string, Range[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORDS,
  W: complement(WORDS),
  s: SPACES,
  S: complement(SPACES),
}

function complement(ranges: readonly Range[]): Range[] {
  const outside: Range[] = []
  let next = 0
  for (const [first, last] of ranges) {
    if (first > next) outside.push([next, first - 1])
    next = last + 1
  }
  return [...outside, [next, LAST_ASCII]]
}

/** Escapes of single characters. */
const CONTROLS: Readonly<Record<string, number>> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 }
/** Digits that a code point takes after each escape. */
const CODE_LENGTHS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 }

/** How the groups that RE2 does not have start after `(?`. */
const REFUSED_GROUPS: [string, string][] = [
  ['=', 'looks ahead with (?=…)'],
  ['!', 'looks ahead with (?!…)'],
  ['<=', 'looks behind with (?<=…)'],
  ['<!', 'looks behind with (?<!…)'],
  ['P=', 'refers back to a group with (?P=…)'],
  ['(', 'depends on a group with (?(…)…)'],
  ['>', 'is atomic, with (?>…)'],
]

/**
 * @throws {PatternError} for lookaround, references to groups, possessive and atomic parts and verbose mode, and for
 * what Python refuses
 */
export function translatePythonRegex(pattern: string): Re2Pattern {
  return new Translator(pattern).translate()
}

class Translator {
  readonly #chars: string[]
  #at = 0
  /** All of the pattern ignores case, or a group of it. */
  #ignoresCase = false
  #foldsCase = false
  #asciiOnly = false
  #beyondAscii = false

  constructor(pattern: string) {
    // By code point, as Python counts.
    this.#chars = [...pattern]
  }

  translate(): Re2Pattern {
    const body = this.#alternatives()
    if (this.#at < this.#chars.length) throw new PatternError('has a ) without its (')
    // Python folds more letters than RE2: those that have an ASCII letter as their other case.
    if (this.#foldsCase && this.#beyondAscii)
      throw new PatternError('ignores the case of letters beyond ASCII')
    return { source: `\\A(?${this.#ignoresCase ? 'i' : ''}:${body})`, asciiOnly: this.#asciiOnly }
  }

  #peek(text: string): boolean {
    return this.#chars.slice(this.#at, this.#at + text.length).join('') === text
  }

  #take(text: string): boolean {
    if (!this.#peek(text)) return false
    this.#at += text.length
    return true
  }

  #next(): string {
    if (this.#at === this.#chars.length) throw new PatternError('ends too early')
    return this.#chars[this.#at++]
  }

  /** Parses up to the end of the pattern, or to the `)` of the enclosing group. */
  #alternatives(): string {
    const branches = [this.#sequence()]
    while (this.#take('|')) branches.push(this.#sequence())
    return branches.join('|')
  }

  #sequence(): string {
    const items: string[] = []
    /** Whether the last item may be repeated. */
    let repeatable = false
    while (this.#at < this.#chars.length && !this.#peek('|') && !this.#peek(')')) {
      if (this.#take('(?#')) {
        while (this.#next() !== ')');
        continue
      }
      const repeat = this.#repeat()
      if (repeat !== undefined) {
        if (!repeatable) throw new PatternError(`repeats nothing, or twice, at ${repeat}`)
        items.push(repeat)
        repeatable = false
        continue
      }
      const { item, canRepeat } = this.#item()
      items.push(item)
      repeatable = canRepeat
    }
    return items.join('')
  }

  /** A quantifier in RE2's form, or undefined where there is none. Lazy ones match the same texts. */
  #repeat(): string | undefined {
    const found = /^(?:[*+?]|\{(?!\})(\d*)(,?)(\d*)\})/.exec(
      this.#chars.slice(this.#at, this.#at + 64).join(''),
    )
    if (found === null) return undefined
    const [text, least, comma, most] = found
    if (text.startsWith('{') && comma === '' && least === '') return undefined
    this.#at += text.length
    if (this.#take('+')) throw new PatternError(`repeats possessively with ${text}+`)
    this.#take('?')
    if (!text.startsWith('{')) return text
    if (comma === '') return `{${least}}`
    if (most === '') return `{${least || 0},}`
    if (Number(least) > Number(most))
      throw new PatternError(`repeats at least ${least} and at most ${most} times`)
    return `{${least || 0},${most}}`
  }

  #item(): { item: string; canRepeat: boolean } {
    const char = this.#next()
    switch (char) {
      case '(':
        return this.#group()
      case '[':
        return { item: this.#set(), canRepeat: true }
      case '\\':
        return this.#escape()
      case '.':
        return { item: '.', canRepeat: true }
      case '^':
        return { item: '\\A', canRepeat: false }
      case '$':
        return { item: '\\z', canRepeat: false }
      default:
        return { item: this.#literal(char.codePointAt(0)!), canRepeat: true }
    }
  }

  /** No group captures: captures are never read. */
  #group(): { item: string; canRepeat: boolean } {
    let flags = ''
    if (this.#take('?')) {
      const refused = REFUSED_GROUPS.find(([mark]) => this.#peek(mark))
      if (refused !== undefined) throw new PatternError(refused[1])
      if (this.#take('P<')) {
        while (this.#next() !== '>');
      } else if (!this.#take(':')) {
        const inline = this.#flags()
        // Flags on their own hold for all of the pattern.
        if (inline === undefined) return { item: '', canRepeat: false }
        flags = inline
      }
    }
    const body = this.#alternatives()
    if (!this.#take(')')) throw new PatternError('has a ( without its )')
    return { item: `(?${flags}:${body})`, canRepeat: true }
  }

  /** Flags as RE2 writes them in front of the `:` of their group; undefined for those on their own. */
  #flags(): string | undefined {
    let [on, off] = ['', '']
    let isOff = false
    for (;;) {
      const char = this.#next()
      if (char === ':' || char === ')') {
        if (char === ':') return on + (off === '' ? '' : `-${off}`)
        if (isOff) throw new PatternError('switches flags off for all of it')
        if (on !== '') this.#ignoresCase = true
        return undefined
      }
      if (char === '-' && !isOff) isOff = true
      else if (char === 'i') {
        this.#asciiOnly = true
        this.#foldsCase = true
        if (isOff) off = 'i'
        else on = 'i'
      }
      // Line breaks and Unicode: these change nothing in ASCII text of one line.
      else if (!'amsu'.includes(char)) throw new PatternError(`has the flag or group (?${char}…)`)
    }
  }

  #escape(): { item: string; canRepeat: boolean } {
    const char = this.#next()
    if (char === 'A') return { item: '\\A', canRepeat: false }
    if (char === 'Z' || char === 'z') return { item: '\\z', canRepeat: false }
    if (char === 'b' || char === 'B') {
      this.#asciiOnly = true
      return { item: `\\${char}`, canRepeat: false }
    }
    const set = this.#setEscape(char)
    return {
      item: set === undefined ? this.#literal(this.#codeOf(char)) : `[${rangesText(set)}]`,
      canRepeat: true,
    }
  }

  #setEscape(char: string): Range[] | undefined {
    if (!Object.hasOwn(SETS, char)) return undefined
    this.#asciiOnly = true
    return SETS[char]
  }

  /** The code point that an escape means. */
  #codeOf(char: string): number {
    if (Object.hasOwn(CONTROLS, char)) return CONTROLS[char]
    if (Object.hasOwn(CODE_LENGTHS, char)) {
      const digits = this.#chars.slice(this.#at, this.#at + CODE_LENGTHS[char]).join('')
      this.#at += CODE_LENGTHS[char]
      const code = /^[0-9a-fA-F]+$/.test(digits) ? Number.parseInt(digits, 16) : Number.NaN
      if (digits.length === CODE_LENGTHS[char] && code <= LAST) return code
      throw new PatternError(`has the escape \\${char}${digits}, which Python does not read`)
    }
    if (/[0-9]/.test(char))
      throw new PatternError(`refers back to a group, or writes a character, with \\${char}`)
    if (/[A-Za-z]/.test(char)) throw new PatternError(`has the escape \\${char}, which has no translation`)
    return char.codePointAt(0)!
  }

  /** The rest of a `[…]`. */
  #set(): string {
    const negated = this.#take('^')
    const ranges: Range[] = []
    do {
      const first = this.#setItem()
      if (!this.#peek('-') || this.#chars[this.#at + 1] === ']') {
        ranges.push(...first)
        continue
      }
      this.#at++
      const last = this.#setItem()
      const [from, to] = [first[0][0], last[0][0]]
      if (!isSingle(first) || !isSingle(last) || from > to) throw new PatternError('has a bad range in […]')
      ranges.push([from, to])
    } while (!this.#take(']'))
    if (ranges.some(([, last]) => last > LAST_ASCII)) this.#beyondAscii = true
    return `[${negated ? '^' : ''}${rangesText(ranges)}]`
  }

  #setItem(): Range[] {
    const char = this.#next()
    const escaped = char === '\\' ? this.#next() : undefined
    const set = escaped === undefined ? undefined : this.#setEscape(escaped)
    if (set !== undefined) return set
    const code = escaped === undefined ? char.codePointAt(0)! : this.#codeOf(escaped)
    return [[code, code]]
  }

  #literal(code: number): string {
    if (code > LAST_ASCII) this.#beyondAscii = true
    return codeText(code)
  }
}

function isSingle(ranges: readonly Range[]): boolean {
  return ranges.length === 1 && ranges[0][0] === ranges[0][1]
}

function rangesText(ranges: readonly Range[]): string {
  return ranges.map(([first, last]) => `${codeText(first)}-${codeText(last)}`).join('')
}

/** No character is special when it is written like this. */
function codeText(code: number): string {
  return `\\x{${code.toString(16)}}`
}
