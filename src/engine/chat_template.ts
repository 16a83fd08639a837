import type { PreTrainedTokenizer } from '@xenova/transformers'
import { TritswapError, toError } from '../errors.ts'
import type { ChatMessage, GenerationResult, TruncatedEnd } from './protocol.ts'

/** Tokens that a prompt may have, and which end of it is cut where it has more. */
export interface Room {
  tokens: number
  end: TruncatedEnd
}

/** The chat template of a tokenizer: messages as the model was trained to read them. */
export class ChatTemplate {
  readonly #tokenizer: PreTrainedTokenizer
  #endTokens: readonly number[] | undefined

  constructor(tokenizer: PreTrainedTokenizer) {
    this.#tokenizer = tokenizer
  }

  get exists(): boolean {
    return Boolean(this.#tokenizer.chat_template)
  }

  /**
   * Tokens of messages, up to where the answer begins. The template writes the special tokens, so the tokenizer adds none.
   * @throws {TritswapError} `unsupported` without a template, `input` for messages that it refuses
   */
  encode(messages: readonly ChatMessage[]): number[] {
    return this.#encode(this.#render(messages))
  }

  /**
   * Tokens of messages that end with an answer, up to what closes it: white space that the template writes after that
   * is left out, as no generation gets that far.
   * @throws {TritswapError} as {@link encode}
   */
  encodeAnswered(messages: readonly ChatMessage[]): number[] {
    return this.#encode(this.#render(messages, false).trimEnd())
  }

  /**
   * Messages of which some are left out, so that they fit: the oldest after the system message (`start`); and where the
   * last one alone is too long, one end of it.
   * @throws {TritswapError} `input` where that is not enough
   */
  encodeWithin(
    messages: readonly ChatMessage[],
    { tokens: room, end }: Room,
  ): { ids: number[]; truncated?: GenerationResult['truncated'] } {
    const whole = this.encode(messages)
    if (whole.length <= room) return { ids: whole }
    const result = (ids: number[]) => ({
      ids,
      truncated: { end, tokens: Math.max(whole.length - ids.length, 0) },
    })
    let kept = messages
    if (end === 'start') {
      const system = messages[0].role === 'system' ? messages.slice(0, 1) : []
      for (let from = system.length + 1; from < messages.length; from++) {
        if (messages[from].role !== 'user') continue
        kept = [...system, ...messages.slice(from)]
        const ids = this.encode(kept)
        if (ids.length <= room) return result(ids)
      }
    }
    const ids = this.#cutLast(kept, room, end)
    if (ids !== undefined) return result(ids)
    throw new TritswapError(
      'input',
      `Cannot cut these messages to the ${room} tokens that there is room for: what is not cut has more by itself; shorten the system message, or the messages before the last`,
      { fields: { promptTokens: whole.length, room } },
    )
  }

  /**
   * What follows the last answer: its end, the request after it, and the beginning of the next answer.
   * @param messages - all of them, the last two of which are that answer and that request
   * @param last - the last token of the answer as it was generated: its end is not written twice
   */
  encodeNext(messages: readonly ChatMessage[], last: number | undefined): number[] {
    let mark = '⁂'
    while (messages.some(({ content }) => content.includes(mark))) mark += '⁂'
    const answered = messages.map((message, at) =>
      at === messages.length - 2 ? { ...message, content: mark } : message,
    )
    const text = this.#render(answered)
    const ids = this.#encode(text.slice(text.indexOf(mark) + mark.length))
    return ids[0] === last && this.endTokens.includes(ids[0]) ? ids.slice(1) : ids
  }

  /** The special token that the template writes after an answer, if it does. */
  get endTokens(): readonly number[] {
    this.#endTokens ??= this.#findEnd()
    return this.#endTokens
  }

  #findEnd(): number[] {
    if (!this.exists) return []
    const mark = '⁂'
    let text: string
    try {
      text = this.#render(
        [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: mark },
        ],
        false,
      )
    } catch {
      return []
    }
    const [end] = this.#encode(text.slice(text.lastIndexOf(mark) + mark.length))
    const isSpecial = end !== undefined && this.#tokenizer.decode([end], { skip_special_tokens: true }) === ''
    return isSpecial ? [end] : []
  }

  /** Keeps as much of the last message as there is room for. */
  #cutLast(messages: readonly ChatMessage[], room: number, end: TruncatedEnd): number[] | undefined {
    const { role, content } = messages[messages.length - 1]
    const tokens = this.#encode(content)
    const keeping = (count: number) => {
      const kept = end === 'end' ? tokens.slice(0, count) : tokens.slice(tokens.length - count)
      const text = this.#tokenizer.decode(kept, { clean_up_tokenization_spaces: false })
      return this.encode([
        ...messages.slice(0, -1),
        { role, content: text.replace(/^\ufffd+|\ufffd+$/g, '') },
      ])
    }
    let best: number[] | undefined
    for (let least = 1, most = tokens.length; least <= most; ) {
      const count = (least + most) >> 1
      const ids = keeping(count)
      if (ids.length <= room) {
        best = ids
        least = count + 1
      } else most = count - 1
    }
    return best
  }

  #render(messages: readonly ChatMessage[], isAnswered = true): string {
    if (!this.exists) {
      throw new TritswapError(
        'unsupported',
        'Cannot use messages: the tokenizer of this base has no chat template; give a text as the prompt, or a base with a chat_template in tokenizer_config.json',
      )
    }
    checkMessages(messages)
    try {
      return this.#tokenizer.apply_chat_template(messages as ChatMessage[], {
        tokenize: false,
        add_generation_prompt: isAnswered,
      }) as unknown as string
    } catch (cause) {
      throw new TritswapError(
        'input',
        `Cannot use these messages: the chat template of this base refuses them (${toError(cause).message}); most want a user's message first, and then answers and requests in turns`,
        { cause },
      )
    }
  }

  #encode(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false })
  }
}

const ROLES: readonly unknown[] = ['system', 'user', 'assistant']

function checkMessages(messages: readonly ChatMessage[]): void {
  const wrong = messages.findIndex(
    (message) => !ROLES.includes(message?.role) || typeof message.content !== 'string',
  )
  if (messages.length > 0 && wrong < 0) return
  const found = wrong < 0 ? 'none' : `another at ${wrong}`
  throw new TritswapError(
    'input',
    `Cannot use these messages: expected a list of { role, content } with the role system, user or assistant and a text, found ${found}`,
    { fields: { at: wrong } },
  )
}
