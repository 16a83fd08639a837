/**
 * Answers that a schema describes. xgrammar says which tokens may come next; it is fetched with the first call that asks.
 *
 * @module
 */
import type * as Xgrammar from '@mlc-ai/web-xgrammar'
import type { PreTrainedTokenizer } from '@xenova/transformers'
import { TritswapError, toError } from '../errors.ts'
import type { AnswerSchema } from './response_format.ts'

/** One line, with the spaces of Python's `json.dumps`: a weak model given any whitespace writes little else. */
const LAYOUT = { anyWhitespace: false, indent: -1, separators: [', ', ': '] as [string, string] }
/** Compiled schemas that are kept for the next call. */
const KEPT_SCHEMAS = 8

/** Grammars over the tokens of one base. */
export class Grammars {
  readonly #script: string | undefined
  readonly #vocabulary: () => Vocabulary
  readonly #compiled = new Map<string, Xgrammar.CompiledGrammar>()
  #compiler: Promise<Xgrammar.GrammarCompiler> | undefined

  /** @param script - address of the library; without it there are no grammars */
  constructor(script: string | undefined, vocabulary: () => Vocabulary) {
    this.#script = script
    this.#vocabulary = vocabulary
  }

  /**
   * Starts an answer.
   * @param ends - tokens that may follow a whole one; without any it ends where nothing else can follow
   * @throws {TritswapError} `network` where the library is not there, `input` for an invalid schema
   */
  async answer(schema: AnswerSchema, ends: readonly number[]): Promise<AnswerMask> {
    const { GrammarMatcher } = await library(this.#script)
    const compiled = await this.#compile(schema)
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled, [...ends], ends.length === 0)
    const mask = new AnswerMask(matcher, compiled.tokenizerInfo())
    await mask.settled
    return mask
  }

  async #compile({ schema, strict }: AnswerSchema): Promise<Xgrammar.CompiledGrammar> {
    const text = JSON.stringify(schema)
    const key = `${strict} ${text}`
    const compiled = this.#compiled.get(key) ?? (await this.#compileAnew(text, strict))
    this.#compiled.delete(key)
    this.#compiled.set(key, compiled)
    for (const [oldest, dropped] of this.#compiled) {
      if (this.#compiled.size <= KEPT_SCHEMAS) break
      this.#compiled.delete(oldest)
      dropped.dispose()
    }
    return compiled
  }

  async #compileAnew(schema: string, strict: boolean): Promise<Xgrammar.CompiledGrammar> {
    this.#compiler ??= this.#newCompiler()
    const compiler = await this.#compiler
    const { anyWhitespace, indent, separators } = LAYOUT
    said.length = 0
    try {
      return await compiler.compileJSONSchema(schema, anyWhitespace, indent, separators, strict)
    } catch (cause) {
      const why = said.at(-1) ?? toError(cause).message
      throw new TritswapError('input', `Cannot answer by this schema: ${why}`, {
        cause,
        fields: { field: 'responseFormat' },
      })
    }
  }

  async #newCompiler(): Promise<Xgrammar.GrammarCompiler> {
    const { TokenizerInfo, GrammarCompiler } = await library(this.#script)
    const { tokens, kind } = this.#vocabulary()
    const info = await TokenizerInfo.createTokenizerInfo([...tokens], kind, false, tokens.length)
    // Its own cache is not told of a schema that it gave up on.
    return GrammarCompiler.createGrammarCompiler(info, false)
  }
}

/** Which tokens an answer may go on with. */
export class AnswerMask {
  readonly #matcher: Xgrammar.GrammarMatcher
  readonly #vocabulary: number
  #allowed: Int32Array = new Int32Array(0)
  /** Resolves when the mask is that of the token to come. */
  settled: Promise<void>

  constructor(matcher: Xgrammar.GrammarMatcher, info: Xgrammar.TokenizerInfo) {
    this.#matcher = matcher
    this.#vocabulary = info.getVocabSize()
    info.dispose()
    this.settled = this.#settle()
  }

  /** Whether nothing can follow, an end token neither. */
  get isOver(): boolean {
    return this.#matcher.isTerminated()
  }

  /**
   * Goes on with a token.
   * @throws {TritswapError} `input` for one that cannot follow: of an answer that began without the schema, above all
   */
  accept(token: number): void {
    if (!this.#matcher.acceptToken(token)) {
      throw new TritswapError(
        'input',
        'Cannot go on with the answer: what there is of it does not fit the schema, or no token of this base fits what is left',
        { fields: { field: 'responseFormat' } },
      )
    }
    if (!this.isOver) this.settled = this.#settle()
  }

  /** Sets logits of tokens that cannot follow to -∞, in place. */
  apply(logits: Float32Array): void {
    for (let token = 0; token < logits.length; token++) {
      const isAllowed = (this.#allowed[token >> 5] >>> (token & 31)) & 1
      // Bits beyond the vocabulary say nothing.
      if (token >= this.#vocabulary || !isAllowed) logits[token] = Number.NEGATIVE_INFINITY
    }
  }

  dispose(): void {
    this.#matcher.dispose()
  }

  async #settle(): Promise<void> {
    this.#allowed = await this.#matcher.getNextTokenBitmask()
  }
}

/** Tokens by their ids as the tokenizer's file writes them; empty are those that write no text. */
export interface Vocabulary {
  tokens: readonly string[]
  /** How text is written in tokens. */
  kind: 'byte_level' | 'byte_fallback' | 'raw'
}

/** @param size - logits of the model, where they are more than the tokenizer's tokens */
export function vocabularyOf(tokenizer: PreTrainedTokenizer, size = 0): Vocabulary {
  const tokens: string[] = []
  for (const [token, id] of tokenizer.get_vocab()) tokens[id] = token
  for (const [id, { content, special }] of tokenizer._tokenizer.get_added_tokens_decoder())
    tokens[id] = special ? '' : content
  const { decoder, pre_tokenizer: splitter } = tokenizer._tokenizerJSON
  const length = Math.max(size, tokens.length)
  return {
    tokens: Array.from({ length }, (_, id) => tokens[id] ?? ''),
    kind: kindOf(JSON.stringify(decoder ?? splitter ?? null)),
  }
}

function kindOf(decoder: string): Vocabulary['kind'] {
  if (decoder.includes('"ByteLevel"')) return 'byte_level'
  return /"ByteFallback"|"Metaspace"/.test(decoder) ? 'byte_fallback' : 'raw'
}

/** What the library said of the schema that it reads. */
const said: string[] = []
const libraries = new Map<string, Promise<typeof Xgrammar>>()

function library(script: string | undefined): Promise<typeof Xgrammar> {
  if (script === undefined)
    throw new TritswapError(
      'unsupported',
      'Cannot answer by a schema: this model was opened without grammars',
    )
  const known = libraries.get(script)
  if (known !== undefined) return known
  const opening = open(script)
  libraries.set(script, opening)
  opening.catch(() => libraries.delete(script))
  return opening
}

async function open(script: string): Promise<typeof Xgrammar> {
  try {
    await import(/* @vite-ignore */ /* webpackIgnore: true */ script)
  } catch (cause) {
    throw new TritswapError(
      'network',
      `Cannot load ${script}, which answers by a schema need: ${toError(cause).message}; it lies beside the workers in what "npx tritswap assets <folder>" copies`,
      { cause, fields: { url: script, asset: true } },
    )
  }
  // The package is a script that leaves its exports here, and no module.
  const { xgrammar } = globalThis as unknown as { xgrammar: typeof Xgrammar }
  await listening(() => xgrammar.TokenizerInfo.createTokenizerInfo(['a']))
  return xgrammar
}

/**
 * The library starts with its first call, and reports by the console that it finds then: why it gives a schema up stands
 * nowhere else.
 */
async function listening(start: () => Promise<{ dispose(): void }>): Promise<void> {
  const { error } = console
  console.error = (...parts: unknown[]) => {
    const [, fatal] = /^\[FATAL\] \S+: (.*)/s.exec(String(parts[0])) ?? []
    if (fatal !== undefined) said.push(fatal.replace(/^Check failed: \(.*?\) is false: /s, ''))
    else if (!String(parts[0]).startsWith('Aborted(')) error.apply(console, parts)
  }
  try {
    const first = await start()
    first.dispose()
  } finally {
    console.error = error
  }
}
