import type { CreateLoader, SwitcherLoader } from '../../src/element/shared_loader.ts'
import type { GenerationEvent } from '../../src/engine/token_stream.ts'
import { abortError, TritswapError } from '../../src/errors.ts'
import { Conversation, type ConversationHost } from '../../src/loader/conversation.ts'
import { type FinishReason, StreamedGeneration } from '../../src/loader/generation.ts'
import type {
  ActiveExpert,
  ActiveSet,
  Expert,
  ExpertChoice,
  ExpertRequest,
  GenerateOptions,
  ProgressCallback,
  SwitchReport,
} from '../../src/loader/index.ts'

export interface FakeOptions {
  /** ms of the base's download, of an expert's, of a token. */
  baseMs?: number
  expertMs?: number
  tokenMs?: number
  text?: string
  /** The base has a chat template. */
  chat?: boolean
  /** The adapter is one in software; it is by default. */
  software?: boolean
  failBase?: Error
  /** Every question fails. */
  failAsk?: Error
  /** Takes the options of each turn of a conversation. */
  turns?: Record<string, unknown>[]
  /** The expert of this id fails to load. */
  failExpert?: string
  /** Waited for by a switch after it has taken effect. */
  gpuEnd?: Promise<unknown>
  /** No server answers for the expert of this id. */
  away?: string
  /** The device is lost so often, each time after so many tokens of a call. */
  lose?: number
  loseAfter?: number
  /** ms of the download of single experts. */
  slowExperts?: Record<string, number>
  /** Takes a line for each call that changes something. */
  log?: string[]
}

const TEXT =
  ' there was a little girl who lived in a house by the river. She had a red boat, and every morning she went down to the water to see if the boat was still there. '

/** A loader without an engine: same calls, same events, made-up tokens. */
export function fakeLoader(fake: FakeOptions = {}): CreateLoader {
  const { baseMs = 0, expertMs = 0, tokenMs = 0, text = TEXT } = fake
  return async ({ onProgress, signal }) => {
    await stream('base', 11_000_000, baseMs, onProgress, signal)
    if (fake.failBase !== undefined) throw fake.failBase
    let active: ActiveSet = { set: 0, experts: [] }
    const residents = new Set<string>()
    let losses = fake.lose ?? 0
    const report = (fetch: number): SwitchReport => ({
      ...active,
      phases: { fetch, verify: fetch / 20, upload: fetch / 12, apply: 2.4 },
      sessions: 0,
      total: fetch + fetch / 20 + fetch / 12 + 2.4,
    })
    async function* tokens({
      maxNewTokens = 20,
      signal,
      experts,
    }: GenerateOptions & { experts?: ExpertChoice; signal?: AbortSignal }): AsyncGenerator<
      GenerationEvent,
      FinishReason
    > {
      const words = text.match(/\s*\S+/g)!
      yield { prompt: { ids: [0] } }
      for (let index = 0; index < maxNewTokens; index++) {
        await wait(tokenMs, signal)
        if (index >= (fake.loseAfter ?? 2) && losses > 0) {
          losses -= 1
          throw new TritswapError('device-lost', 'Cannot go on: the GPU device was lost (test)')
        }
        // The text of a chat ends, that of a manuscript goes on.
        if (fake.chat && index === words.length) return 'stop'
        const bound = experts && { set: 0, experts: pairs(experts) }
        yield { ...(bound ?? active), token: index, text: words[index % words.length]!, ms: tokenMs, read: 1 }
      }
      return 'length'
    }
    const loader: SwitcherLoader = {
      info: {
        name: 'demo',
        adapter: {
          vendor: 'google',
          architecture: 'swiftshader',
          device: '',
          description: 'SwiftShader',
          software: fake.software ?? true,
        },
        dtype: 'f32',
        weights: 55,
        contextLength: 512,
        chat: fake.chat ?? false,
      },
      async load(request, options = {}) {
        // The switcher always sends a request with an id.
        const { id = '', withdrawn } = request as ExpertRequest
        if (withdrawn !== undefined) throw new TritswapError('unsupported', `Cannot use ${id}: ${withdrawn}`)
        await stream(id, 190_000, fake.slowExperts?.[id] ?? expertMs, options.onProgress, options.signal)
        if (id === fake.away)
          throw new TritswapError('network', `Cannot fetch ${id}`, { fields: { url: id } })
        fake.log?.push(`load ${id}`)
        if (id === fake.failExpert) {
          throw new TritswapError(
            'base',
            `Cannot use ${id}: expected an expert of base 5fe2…, found one of base 81c0…; use an expert made for this base`,
          )
        }
        residents.add(id)
        const release = async () => {
          fake.log?.push(`release ${id}`)
        }
        return { id, release } as Expert
      },
      async prefetch(request) {
        fake.log?.push(`prefetch ${(request as ExpertRequest).id}`)
        return { status: 'skipped', reason: 'no-cache' }
      },
      async activate(choice) {
        active = { set: active.set + 1, experts: pairs(choice) }
        fake.log?.push(`activate ${active.experts.map(name).join(' + ')}`)
        const switched = report(expertMs)
        await fake.gpuEnd
        return switched
      },
      async deactivate() {
        active = { set: active.set + 1, experts: [] }
        fake.log?.push('deactivate')
        return report(0)
      },
      generate(_prompt, options = {}) {
        return new StreamedGeneration(async () => tokens(options), options.signal)
      },
      conversation(options = {}) {
        const host: ConversationHost = {
          async generate({ messages, answer }, turn) {
            if (fake.failAsk !== undefined) throw fake.failAsk
            fake.turns?.push({ ...turn })
            const last = messages.at(-1)?.content
            fake.log?.push(last === undefined ? `go on after ${answer}` : `ask ${last}`)
            return tokens(turn)
          },
          systemOf: ({ system }) => system,
          async end() {
            fake.log?.push('end')
          },
        }
        return new Conversation(host, options)
      },
      async stats() {
        const experts = residents.size * 200_000
        return {
          vram: {
            base: 21_900_000,
            own: 0,
            experts,
            journal: 400_000,
            copies: 0,
            beside: 0,
            total: 22_300_000 + experts,
          },
          active: [],
          counts: { uploads: residents.size, evictions: 0, switches: active.set, cpuDecodes: 0 },
          expertBytesUploaded: experts,
        }
      },
      async tokenize(text) {
        return [...new TextEncoder().encode(text)]
      },
      async score(tokens, experts) {
        await wait(tokenMs)
        const bits = tokens.length * (experts === undefined || pairs(experts).length === 0 ? 3 : 2)
        return { bits, bytes: tokens.length, tokens: tokens.length - 1 }
      },
      async compare(tokens, reference, others) {
        await wait(tokenMs)
        const positions = tokens.length - 1
        // The likeness of two sets is that of their names.
        const nameOf = (choice: ExpertChoice) => pairs(choice).map(name).join()
        return others.map((other) => {
          const same = nameOf(other) === nameOf(reference)
          return {
            positions,
            agreeing: same ? positions : Math.floor(positions / 2),
            klBits: same ? 0 : positions,
          }
        })
      },
      async dispose() {
        fake.log?.push('dispose')
      },
    }
    return loader
  }
}

const pairs = (choice: ExpertChoice): ActiveExpert[] =>
  ('release' in choice ? [{ expert: choice, weight: 1 }] : choice).map(({ expert, weight }) => ({
    expert: expert.id,
    weight,
  }))

const name = ({ expert, weight }: ActiveExpert) => (weight === 1 ? expert : `${expert} × ${weight}`)

async function stream(
  file: string,
  total: number,
  ms: number,
  onProgress?: ProgressCallback,
  signal?: AbortSignal,
): Promise<void> {
  for (let step = 0; step <= 10; step++) {
    await wait(ms / 10, signal)
    const loaded = (total * step) / 10
    onProgress?.({
      status: 'progress',
      name: file,
      file,
      loaded,
      total,
      progress: 10 * step,
      phase: 'network',
    })
  }
}

function wait(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortError(signal))
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(abortError(signal))
    })
  })
}
