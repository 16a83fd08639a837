import { Channel } from '../async/channel.ts'
import type { ExpertHost } from '../model/expert_host.ts'
import type { ExpertSet } from '../model/expert_set.ts'
import type { KvCache } from './kv_cache.ts'
import type {
  ActiveExpert,
  EncodedPrompt,
  GeneratedToken,
  GenerateOptions,
  Prompt,
  TokenRun,
} from './protocol.ts'
import { frontOfSet, isActivated, Reading } from './reading.ts'
import type { PromptReading, TextModel } from './text_model.ts'

/** Tokens that may wait for their reader; beyond them no forward pass starts. */
const READ_AHEAD = 4

/** The prompt comes first, then its tokens. */
export type GenerationEvent = { prompt: EncodedPrompt } | GeneratedToken

/** Why a generation ended. */
export type NaturalEnd = 'stop' | 'length'

/** A generation under way. */
export interface TokenStream {
  events: AsyncIterableIterator<GenerationEvent, NaturalEnd | undefined>
  /** Ends it early: the reader gets `reason` once the forward pass under way is over. */
  stop(reason: Error): void
  /** Resolves when no forward pass of it runs any more. */
  ended: Promise<void>
}

export interface StreamOptions extends Omit<GenerateOptions, 'system'> {
  /** Of this generation alone; without them it follows `activate`. */
  experts?: readonly ActiveExpert[]
}

/**
 * Starts a generation. Each token says which experts were at work in the forward pass that it was sampled from. With
 * `kv: 'recompute'` a switch takes effect when its experts have read the whole context, tokens of others included.
 *
 * @param cache - of the conversation that the prompt is a turn of
 * @throws {TritswapError} `released` with `fields.evicted` if experts have to be loaded again first; as
 * {@link TextModel.encodePrompt}
 */
export function streamTokens(
  host: ExpertHost,
  text: Pick<TextModel, 'encodePrompt' | 'generate' | 'sessions'>,
  prompt: Prompt,
  { experts, kv = 'keep', ...options }: StreamOptions,
  signal: AbortSignal,
  cache?: KvCache,
): TokenStream {
  const { runtime, loaded } = host
  const own = experts && loaded.set(experts)
  const encoded = text.encodePrompt(prompt, options)
  const answer = typeof prompt === 'object' && 'answer' in prompt ? prompt.answer : 0
  const ending = new AbortController()
  const stop = (reason?: unknown) => {
    ending.abort(reason)
    // What waits for the reader is not wanted any more, and a producer that waits for room can go on to its end.
    channel.clear()
  }
  // A forward pass cannot be taken back: a reader that leaves waits for it, so that nothing runs after the call.
  const channel: Channel<GenerationEvent, NaturalEnd> = new Channel<GenerationEvent, NaturalEnd>(
    READ_AHEAD,
    () => {
      stop()
      return ended
    },
  )
  const prompted = new Reading()
  const { ids } = encoded
  prompted.begin(ids.slice(0, ids.length - answer))
  const context = runtime.passContext(own, { ready: () => channel.ready(), acts: prompted.acts })
  if (kv === 'recompute' && !experts) context.pin()
  channel.push({ prompt: encoded })
  const reader = (set: ExpertSet) => readerOf(loaded.namesOf(set), isActivated(set))
  // What follows virtual tokens is theirs, though its passes are the base's.
  const shown = () => (prompted.front > 0 ? prompted.partOf(context.wanted) : context.ran)
  let isPinned = kv === 'recompute'
  let before: TokenRun[] = []
  const reading: PromptReading = {
    front() {
      prompted.place(context.wanted)
      // They and what follows them are read by one set.
      if (prompted.front > 0 && !experts) {
        context.pin()
        isPinned = true
      }
      return prompted.front
    },
    stops: () => prompted.stops(context.wanted),
    readFrom: (position) => prompted.readFrom(position),
    keeps(position, had) {
      const { wanted } = context
      if (had === reader(prompted.partAt(wanted, position))) return true
      return kv === 'keep' && !isActivated(wanted) && !isOfActivated(had)
    },
    onPart(tokens, isVirtual) {
      const set = shown()
      cache?.noteReader(reader(set))
      if (!isVirtual) before.push({ set: set.id, experts: loaded.namesOf(set), tokens })
    },
  }
  let last = performance.now()
  const onToken = (token: number, piece: string, read: number) => {
    const now = performance.now()
    const set = shown()
    cache?.noteReader(reader(set))
    channel.push({
      ...{ token, text: piece, set: set.id, experts: loaded.namesOf(set), ms: now - last, read },
      ...(before.length > 0 && { before }),
    })
    before = []
    last = now
    if (experts) return false
    return (isPinned || frontOfSet(context.wanted) > 0) && context.pin()
  }
  const onAbort = () => stop(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const sessions = runtime.sessions(text.sessions, context)
  const run = async () => {
    return text.generate(encoded, sessions, onToken, options, {
      signal: ending.signal,
      cache,
      reading,
      answer,
    })
  }
  const ended: Promise<void> = run()
    .then(
      (end) => channel.finish(end),
      (error: unknown) => channel.close(error),
    )
    .finally(() => {
      signal.removeEventListener('abort', onAbort)
      context.end()
    })
  return { events: channel, stop, ended }
}

/** Equal for sets that read alike. */
function readerOf(experts: readonly ActiveExpert[], activated: boolean): string {
  return JSON.stringify([activated, experts.map(({ expert, weight, binding }) => [expert, weight, binding])])
}

function isOfActivated(reader: string): boolean {
  return reader !== '' && (JSON.parse(reader) as [boolean])[0]
}
