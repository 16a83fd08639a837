import { Channel } from '../async/channel.ts'
import type { ExpertHost } from '../model/expert_host.ts'
import type { ActiveExpert, GeneratedToken, GenerateOptions } from './protocol.ts'
import type { TextModel } from './text_model.ts'

/** Tokens that may wait for their reader; beyond them no forward pass starts. */
const READ_AHEAD = 4

/** A generation under way. */
export interface TokenStream {
  tokens: AsyncIterableIterator<GeneratedToken, undefined>
  /** Ends it early: the reader gets `reason` once the forward pass under way is over. */
  stop(reason: Error): void
  /** Resolves when no forward pass of it runs any more. */
  ended: Promise<void>
}

/**
 * Starts a generation. Each token says which experts were at work in the forward pass that it was sampled from. With
 * `kv: 'recompute'` a switch takes effect when its experts have read the whole context, tokens of others included.
 *
 * @param options.experts - of this generation alone; without them it follows `activate`
 * @throws {TritswapError} `released` with `fields.evicted` if experts have to be loaded again first
 */
export function streamTokens(
  host: ExpertHost,
  text: Pick<TextModel, 'generate' | 'sessions'>,
  prompt: string,
  { experts, kv = 'keep', ...options }: GenerateOptions & { experts?: readonly ActiveExpert[] },
  signal: AbortSignal,
): TokenStream {
  const { runtime, loaded } = host
  const ending = new AbortController()
  const stop = (reason?: unknown) => {
    ending.abort(reason)
    // What waits for the reader is not wanted any more, and a producer that waits for room can go on to its end.
    channel.clear()
  }
  // A forward pass cannot be taken back: a reader that leaves waits for it, so that nothing runs after the call.
  const channel: Channel<GeneratedToken> = new Channel<GeneratedToken>(READ_AHEAD, () => {
    stop()
    return ended
  })
  const context = runtime.passContext(experts && loaded.set(experts), () => channel.ready())
  if (kv === 'recompute') context.pin()
  let last = performance.now()
  const onToken = (token: number, piece: string) => {
    const now = performance.now()
    const { ran } = context
    channel.push({ token, text: piece, set: ran.id, experts: loaded.namesOf(ran), ms: now - last })
    last = now
    return kv === 'recompute' && !experts && context.pin()
  }
  const onAbort = () => stop(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const sessions = runtime.sessions(text.sessions, context)
  const ended: Promise<void> = text
    .generate(prompt, sessions, onToken, options, ending.signal)
    .then(
      () => channel.close(),
      (error: unknown) => channel.close(error),
    )
    .finally(() => {
      signal.removeEventListener('abort', onAbort)
      context.end()
    })
  return { tokens: channel, stop, ended }
}
