import type {
  Conversation,
  GeneratedToken,
  Generation,
  GenerationResult,
  TurnOptions,
} from '../loader/index.ts'
import type { Found } from './automatic.ts'
import type { WeightedPen } from './pens.ts'
import { textOf } from './runs.ts'
import type { Lease, SwitcherLoader } from './shared_loader.ts'
import { type ReadTokens, TokenWriter, type WriterHost, type WrittenToken } from './token_writer.ts'

/** A question and its answer. */
export interface Exchange {
  readonly question: string
  /** The model has read nothing of what stands before this exchange. */
  readonly fresh: boolean
  /** The pens that were held when the question was asked: whose answer it is until the first token says. */
  readonly asked: readonly WeightedPen[]
  /** Why it is these, where the visitor left that to the switcher. */
  readonly found?: Found
  readonly answer: WrittenToken[]
  /** Why the answer ended; undefined while it is written, and where it failed. */
  ended?: GenerationResult['finishReason']
  problem: string
}

export interface AskOptions extends TurnOptions {
  /** System message of the chat; another one than before begins a new chat. */
  system?: string
  /** Begin a new chat: the model reads nothing of what was said before. */
  fresh?: boolean
  /** Why the pens in hand are the ones that answer. */
  found?: Found
}

/** The loader's conversation, which remembers what was said. */
interface Memory {
  loader: SwitcherLoader
  system: string | undefined
  conversation: Conversation
}

/** A chat with the model: what was asked, and what was answered. */
export class ChatSession {
  exchanges: Exchange[] = []
  readonly #host: WriterHost
  readonly #writer: TokenWriter
  #memory?: Memory

  constructor(host: WriterHost) {
    this.#host = host
    this.#writer = new TokenWriter(host)
  }

  get writing(): boolean {
    return this.#writer.writing
  }

  /** Asks, and resolves when the answer has ended or was stopped. */
  async ask(lease: Lease, question: string, { fresh, system, found, ...options }: AskOptions): Promise<void> {
    if (this.writing || question.trim() === '') return
    const memory = this.#memory
    const begins = fresh || memory?.loader !== lease.loader || memory.system !== system
    if (begins) {
      this.leave()
      this.#memory = { loader: lease.loader, system, conversation: lease.loader.conversation({ system }) }
    }
    await this.#answer(lease, this.#add(question, begins, found), options)
  }

  /** Goes on with the last answer, which was stopped or reached the token limit. */
  async goOn(lease: Lease, options: TurnOptions): Promise<void> {
    const exchange = this.exchanges.at(-1)
    if (this.writing || exchange === undefined) return
    if (this.#memory?.loader !== lease.loader) return this.answerAgain(lease, options)
    await this.#answer(lease, exchange, options)
  }

  /** Answers the last question again, with the pens that are held now. */
  async answerAgain(lease: Lease, options: AskOptions): Promise<void> {
    if (this.writing) return
    const { system, fresh: _, found: __, ...rest } = options
    const last = this.exchanges.pop()
    if (last === undefined) return
    // The engine was started anew, and its conversation with it.
    if (this.#memory?.loader !== lease.loader) return this.ask(lease, last.question, { ...rest, system })
    await this.#answer(lease, this.#add(last.question, last.fresh), rest)
  }

  /** Empties the chat. */
  clear(): void {
    this.leave()
    this.exchanges = []
    this.#host.changed()
  }

  stop(): void {
    this.#writer.stop()
  }

  /** As {@link TokenWriter.rebind}. */
  rebind(): void {
    this.#writer.rebind()
  }

  /** Frees what the engine remembers; what was said can still be read here. */
  leave(): void {
    this.stop()
    // Of an engine that is gone there is nothing to free.
    this.#memory?.conversation.dispose().catch(() => {})
    this.#memory = undefined
  }

  #add(question: string, fresh: boolean, found?: Found): Exchange {
    const exchange = { question, fresh, asked: this.#host.held(), found, answer: [], problem: '' }
    this.exchanges = [...this.exchanges, exchange]
    return exchange
  }

  /** Adds to the last answer until its end. */
  async #answer(lease: Lease, exchange: Exchange, options: TurnOptions): Promise<void> {
    const { conversation } = this.#memory!
    const first = this.exchanges.findLastIndex(({ fresh }) => fresh)
    /** A question and an answer each; what failed before the model read it is not among them. */
    const turns = 2 * (this.exchanges.length - first)
    let generation: Generation | undefined
    const read: ReadTokens = (_loader, request) => {
      if (conversation.turns.length < turns) generation = conversation.send(exchange.question, request)
      else if (exchange.answer.length === 0)
        // Another pen reads the question itself: what the one before made of it is in the KV cache.
        generation = conversation.regenerate({ kv: 'recompute', ...request })
      else {
        generation = conversation.continue(request)
        return goingOn(generation, conversation, exchange.answer)
      }
      return generation
    }
    exchange.ended = undefined
    exchange.problem = ''
    await this.#writer.write(lease, exchange.answer, options, read)
    exchange.problem = this.#writer.problem
    if (exchange.problem === '') exchange.ended = (await generation?.result)?.finishReason
    this.#host.changed()
  }
}

/**
 * More of an answer. What its end held back (half a character, the start of a stop string) was shown when it was cut, and
 * comes again with what follows: it is taken off what is shown.
 */
async function* goingOn(
  generation: Generation,
  { turns }: Conversation,
  answer: WrittenToken[],
): AsyncGenerator<GeneratedToken, void, void> {
  let isFirst = true
  for await (const token of generation) {
    if (isFirst) cutTo(answer, turns.at(-1)!.content.length - token.text.length)
    isFirst = false
    yield token
  }
}

/** Cuts the text of tokens to this many characters. */
function cutTo(tokens: WrittenToken[], length: number): void {
  let excess = textOf(tokens).length - length
  for (let index = tokens.length - 1; index >= 0 && excess > 0; index--) {
    const token = tokens[index]!
    const kept = Math.max(0, token.text.length - excess)
    excess -= token.text.length - kept
    token.text = token.text.slice(0, kept)
  }
}
