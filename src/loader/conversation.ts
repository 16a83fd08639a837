/**
 * A conversation: turns over one KV cache, which the engine keeps between them.
 *
 * @module
 */
import type { ChatMessage, GenerateOptions, TurnRequest } from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'
import type { ExpertChoice } from './expert_library.ts'
import {
  type EventStream,
  type Generation,
  type GenerationObserver,
  StreamedGeneration,
} from './generation.ts'
import { Transcript, type Turn } from './transcript.ts'

/** What a turn is generated with. */
export interface TurnOptions extends Omit<GenerateOptions, 'system'> {
  /** Of this turn only; without them it follows `activate`. */
  experts?: ExpertChoice
  signal?: AbortSignal
}

/** What all turns are generated with, where they do not say. */
export interface ConversationOptions extends GenerateOptions {
  experts?: ExpertChoice
}

/** What a conversation asks of its loader. */
export interface ConversationHost {
  generate(request: TurnRequest, options: TurnOptions): Promise<EventStream>
  /** The system message of a conversation that begins with these options. */
  systemOf(options: ConversationOptions): string | undefined
  end(conversation: string): Promise<void>
}

/** A start, and what is done when the prompt was read. */
interface Begin {
  request: Omit<TurnRequest, 'conversation'>
  onPrompt: GenerationObserver['onPrompt']
}

export class Conversation {
  readonly #host: ConversationHost
  readonly #options: ConversationOptions
  readonly #id = crypto.randomUUID()
  readonly #transcript = new Transcript()
  /** The system message of the first turn, which stays in the context. */
  #system: string | undefined
  #answering: Generation | undefined
  #disposed = false

  constructor(host: ConversationHost, options: ConversationOptions = {}) {
    this.#host = host
    this.#options = options
  }

  /** Requests and answers in turns; the list changes while an answer is generated. */
  get turns(): readonly Turn[] {
    return this.#transcript.turns
  }

  /** Asks, and streams the answer. The request is among the turns once the model begins to read it. */
  send(text: string, options: TurnOptions = {}): Generation {
    return this.#generate(options, () => {
      const { turns, context } = this.#transcript
      if (turns.length === 0) this.#system = this.#host.systemOf({ ...this.#options, ...options })
      return {
        request: { context, messages: [...this.#messages(), { role: 'user', content: text }], answer: 0 },
        onPrompt: (prompt) => this.#transcript.ask(text, prompt),
      }
    })
  }

  /**
   * Goes on with the last answer, where it was cut by its length, a stop or an error.
   * @throws {TritswapError} `input` if there is none, or it is complete
   */
  continue(options: TurnOptions = {}): Generation {
    return this.#generate(options, () => {
      const { last, context } = this.#transcript
      if (last === undefined || last.finishReason === 'stop') {
        const why = last === undefined ? 'nothing was asked' : 'the last answer is complete'
        throw new TritswapError('input', `Cannot continue: ${why}; send a message`)
      }
      return {
        request: { context, messages: [], answer: last.tokens.length },
        onPrompt: ({ answer }) => {
          last.content = answer ?? last.content
          last.finishReason = undefined
        },
      }
    })
  }

  /**
   * Answers the last request anew.
   * @throws {TritswapError} `input` if there is none
   */
  regenerate(options: TurnOptions = {}): Generation {
    return this.#generate(options, () => {
      const { last, context } = this.#transcript
      if (last === undefined) throw new TritswapError('input', 'Cannot regenerate: nothing was asked')
      return {
        request: { context: context.slice(0, context.length - last.tokens.length), messages: [], answer: 0 },
        onPrompt: () => this.#transcript.retract(),
      }
    })
  }

  /** Forgets all turns. @throws {TritswapError} `input` while an answer is generated */
  async reset(): Promise<void> {
    this.#checkIdle('reset')
    this.#transcript.clear()
    await this.#host.end(this.#id)
  }

  /** Ends the answer under way and frees the KV cache. */
  async dispose(): Promise<void> {
    this.#disposed = true
    await this.#answering?.return()
    await this.#host.end(this.#id)
  }

  #generate(options: TurnOptions, begin: () => Begin): Generation {
    const observer: GenerationObserver = {
      onToken: (token) => this.#transcript.write(token),
      onEnd: (result) => {
        if (this.#answering !== generation) return
        this.#answering = undefined
        const { last } = this.#transcript
        if (last !== undefined && isBegun) last.finishReason = result?.finishReason
      },
    }
    let isBegun = false
    const start = async () => {
      this.#checkIdle('generate')
      this.#answering = generation
      const { request, onPrompt } = begin()
      observer.onPrompt = (prompt) => {
        isBegun = true
        onPrompt?.(prompt)
      }
      const { system: _, ...defaults } = this.#options
      return this.#host.generate({ conversation: this.#id, ...request }, { ...defaults, ...options })
    }
    const generation: Generation = new StreamedGeneration(start, options.signal, observer)
    return generation
  }

  /** The messages of all turns, the system's first. */
  #messages(): ChatMessage[] {
    const turns = this.#transcript.turns.map(({ role, content }) => ({ role, content }))
    return this.#system ? [{ role: 'system', content: this.#system }, ...turns] : turns
  }

  /** @throws {TritswapError} `input` while an answer is generated, `released` after `dispose` */
  #checkIdle(what: string): void {
    if (this.#disposed)
      throw new TritswapError('released', `Cannot ${what}: the conversation was disposed; begin another one`)
    if (this.#answering !== undefined) {
      throw new TritswapError(
        'input',
        `Cannot ${what}: an answer of this conversation is being generated; wait for it, or abort it`,
      )
    }
  }
}
