import type {
  ActiveExpert,
  ActiveSet,
  EncodedPrompt,
  GeneratedToken,
  GenerationResult,
  TokenRun,
} from '../engine/protocol.ts'

/** One message of a conversation. */
export interface Turn {
  readonly role: 'user' | 'assistant'
  readonly content: string
  /**
   * The ids that the model read or wrote, exactly as they were encoded or generated; those of all turns are its context.
   * A request has what the template puts around it too: the system message before the first one, the end of the answer
   * before it where the model did not write that. Empty for turns that were cut off a context that is full.
   */
  readonly tokens: readonly number[]
  /** Who wrote an answer: the set of its last token. Empty for the base, and for requests. */
  readonly experts: readonly ActiveExpert[]
  /** Which sets read these tokens into the KV cache, in order. A token that nothing was generated after is not read yet. */
  readonly readBy: readonly TokenRun[]
  /** Of an answer that has ended. */
  readonly finishReason?: GenerationResult['finishReason']
}

type MutableTurn = { -readonly [K in keyof Turn]: Turn[K] } & { tokens: number[] }

/** The turns of a conversation, with who read each of their tokens. */
export class Transcript {
  readonly turns: MutableTurn[] = []
  /** The set that read each token of the context. */
  #readers: ActiveSet[] = []

  /** All tokens that the model has read or written. */
  get context(): number[] {
    return this.turns.flatMap(({ tokens }) => tokens)
  }

  get last(): MutableTurn | undefined {
    return this.turns.at(-1)
  }

  /** A request, and the answer that begins. */
  ask(content: string, { ids, truncated }: EncodedPrompt): void {
    if (truncated !== undefined) {
      const before = this.context
      const differs = ids.findIndex((id, at) => id !== before[at])
      for (const turn of this.turns) Object.assign(turn, { tokens: [], readBy: [] })
      // What the new context begins with in common with the old one is not read again.
      this.#readers.length = Math.min(this.#readers.length, differs < 0 ? ids.length : differs)
    }
    const tokens = ids.slice(this.context.length)
    this.turns.push(turn('user', content, tokens), turn('assistant', '', []))
  }

  /** The last answer begins anew. */
  retract(): void {
    this.turns.splice(-1, 1, turn('assistant', '', []))
    this.#readers.length = Math.min(this.#readers.length, this.context.length)
  }

  write({ token, text, set, experts, read, before = [] }: GeneratedToken): void {
    const end = this.context.length
    const runs = [...before, { set, experts, tokens: read }]
    const from = end - runs.reduce((sum, { tokens }) => sum + tokens, 0)
    let at = from
    for (const { tokens, ...reader } of runs)
      for (const stop = at + tokens; at < stop; at++) if (at >= 0) this.#readers[at] = reader
    this.#noteReaders(from)
    const answer = this.last!
    answer.tokens.push(token)
    answer.content += text
    answer.experts = experts
  }

  clear(): void {
    this.turns.length = 0
    this.#readers = []
  }

  /** Tells turns who read their tokens, from a place in the context on. */
  #noteReaders(from: number): void {
    let start = 0
    for (const turn of this.turns) {
      const end = start + turn.tokens.length
      if (end > from) turn.readBy = runsOf(this.#readers.slice(start, end))
      start = end
    }
  }
}

function turn(role: Turn['role'], content: string, tokens: number[]): MutableTurn {
  return { role, content, tokens, experts: [], readBy: [] }
}

function runsOf(readers: readonly ActiveSet[]): TokenRun[] {
  const runs: TokenRun[] = []
  for (const { set, experts } of readers) {
    const run = runs.at(-1)
    // A part of a set has its id: other experts of it wait for their invocation.
    if (run?.set === set && run.experts.length === experts.length) run.tokens++
    else runs.push({ set, experts, tokens: 1 })
  }
  return runs
}
