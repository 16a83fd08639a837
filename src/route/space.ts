/**
 * Texts as vectors, without a model: hashed n-grams of words, of their letters, and of their forms. What is asked shows in
 * its words and, where they are inflected or new, in their letters; how it is asked in its forms ("0yo A w/ A", "the 0 x
 * with the x x"), which values and names do not change.
 *
 * No base and no GPU are needed, so a page routes before it has either, and one index serves every base.
 * `docs/ROUTING.md` says how often it is right.
 *
 * @module
 */

/** Name of this space: what two vectors that are compared must have in common. */
export const SPACE = 'ngrams-2'

/** Dimensions of a vector. A multiple of 32: signs are kept as whole words. */
export const DIMS = 960

/** A longer text says no more of its kind. Characters. */
const READ = 4000

/** A word, a run of digits, or one sign; in scripts without spaces, one character. */
const TOKEN =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])\p{L}\p{M}*)+|\p{N}+|[^\s\p{L}\p{N}]/gu

const IS_WORD = /^\p{L}/u

/** Words that say how something is asked, which a form keeps as they are. */
const FUNCTION_WORDS = new Set(
  `a an the of to in on at for with from by and or but not no is are was were be am do does did have has had i you he she
  it we they my your his her its our their me him us them this that these those what which who whom whose when where why
  how if as than then so can could will would should may might must there here please`.split(/\s+/),
)

/** How much each kind of n-gram counts. */
const WEIGHTS = { word: 1, letters: 0.25, pair: 0.7, formPair: 0.7, formTriple: 0.5 }

/** Letters in a row that count as one n-gram. */
const LETTERS = [3, 4]

/** Values that an n-gram is added to: where it meets another one in one of them, it does not in the next. */
const PLACES = 2

/**
 * A text as a vector of length 1, or of zeros if it holds nothing.
 * @returns `DIMS` values
 */
export function embed(text: string): Float32Array {
  const vector = new Float32Array(DIMS)
  for (const [gram, weight] of gramsOf(text)) {
    let hash = hashOf(gram)
    for (let place = 0; place < PLACES; place++) {
      vector[hash % DIMS] += (hash >>> 31 === 0 ? 1 : -1) * Math.sqrt(weight)
      hash = mixed(hash + 0x9e3779b9)
    }
  }
  return normalized(vector)
}

/** In place. */
export function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  if (length > 0) for (let i = 0; i < vector.length; i++) vector[i] /= length
  return vector
}

/** All n-grams of a text with their weights, each as often as it occurs. */
function gramsOf(text: string): Map<string, number> {
  const grams = new Map<string, number>()
  const add = (gram: string, weight: number) => grams.set(gram, (grams.get(gram) ?? 0) + weight)
  const words = ['^']
  const forms = ['^']
  for (const [token] of text.slice(0, READ).normalize('NFKC').matchAll(TOKEN)) {
    const isNumber = /^\p{N}/u.test(token)
    const word = isNumber ? '0'.repeat(Math.min(token.length, 4)) : token.toLowerCase()
    add(`w ${word}`, WEIGHTS.word)
    if (!isNumber && IS_WORD.test(token) && !FUNCTION_WORDS.has(word)) {
      for (const letters of lettersOf(`<${word}>`)) add(`c ${letters}`, WEIGHTS.letters)
    }
    words.push(word)
    forms.push(formOf(token, word, isNumber))
  }
  words.push('$')
  forms.push('$')
  for (let i = 1; i < words.length; i++) {
    add(`p ${words[i - 1]} ${words[i]}`, WEIGHTS.pair)
    add(`f ${forms[i - 1]} ${forms[i]}`, WEIGHTS.formPair)
    if (i > 1) add(`t ${forms[i - 2]} ${forms[i - 1]} ${forms[i]}`, WEIGHTS.formTriple)
  }
  return grams
}

function lettersOf(word: string): string[] {
  return LETTERS.flatMap((count) =>
    Array.from({ length: Math.max(0, word.length - count + 1) }, (_, at) => word.slice(at, at + count)),
  )
}

function formOf(token: string, word: string, isNumber: boolean): string {
  if (isNumber) return '0'
  if (!IS_WORD.test(token)) return token
  if (FUNCTION_WORDS.has(word)) return word
  if (word === token) return 'x'
  return token.length > 1 && token === token.toUpperCase() ? 'A' : 'C'
}

/** FNV-1a over UTF-16 units, mixed once more so that every bit depends on all of them. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mixed(hash)
}

/** The finalizer of MurmurHash3. */
function mixed(bits: number): number {
  let hash = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
