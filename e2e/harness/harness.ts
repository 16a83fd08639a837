/**
 * The library without a user interface, and a plain transformers.js session to compare it with. Specs drive it through
 * `window.harness`.
 *
 * @module
 */
import { env, pipeline } from '@xenova/transformers'
import { TextModel } from '../../src/engine/text_model.ts'
import { LocalFetches } from '../../src/fetcher/local.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import {
  attachExperts,
  type ChatMessage,
  type Expert,
  ExpertLoader,
  type ExpertRequest,
  isTritswapError,
  type LoaderOptions,
} from '../../src/loader/index.ts'
import { ExpertHost } from '../../src/model/expert_host.ts'
import { hoistIntoVram } from '../../src/model/filled_base.ts'
import { fetchGraph } from '../../src/model/graph_files.ts'
import { externalFilesOf } from '../../src/onnx/index.ts'

const ORT = new URL('/ort/', location.href).href
const ORT_FILES = {
  mjs: `${ORT}ort-wasm-simd-threaded.asyncify.mjs`,
  wasm: `${ORT}ort-wasm-simd-threaded.asyncify.wasm`,
}

/** The parts of an error that specs look at. */
function plainError(error: unknown) {
  const { name, message, cause } = error as Error
  return {
    name,
    message,
    tag: isTritswapError(error) ? error.tag : undefined,
    fields: isTritswapError(error) ? error.fields : undefined,
    cause: cause instanceof Error ? cause.message : undefined,
  }
}

/** Bytes of all ArrayBuffers in a value, however deep. */
function bufferBytes(value: unknown, seen = new Set<unknown>()): number {
  if (typeof value !== 'object' || value === null || seen.has(value)) return 0
  seen.add(value)
  if (value instanceof ArrayBuffer) return value.byteLength
  if (ArrayBuffer.isView(value)) return bufferBytes(value.buffer, seen)
  return Object.values(value).reduce((sum: number, item) => sum + bufferBytes(item, seen), 0)
}

/** Bytes that came to this thread in messages, from any worker or port, and in responses of its own fetches. */
const received = { messageBytes: 0, fetched: [] as string[] }

const dispatch = EventTarget.prototype.addEventListener
for (const target of [Worker.prototype, MessagePort.prototype]) {
  const counted = new WeakSet<Event>()
  const count = (event: Event) => {
    if (counted.has(event)) return
    counted.add(event)
    received.messageBytes += bufferBytes((event as MessageEvent).data)
  }
  target.addEventListener = function (this: EventTarget, type: string, ...rest: unknown[]) {
    if (type === 'message') dispatch.call(this, 'message', count)
    return (dispatch as (...args: unknown[]) => void).call(this, type, ...rest)
  } as never
  const handler = Object.getOwnPropertyDescriptor(target, 'onmessage') as PropertyDescriptor
  Object.defineProperty(target, 'onmessage', {
    ...handler,
    set(this: EventTarget, value: unknown) {
      dispatch.call(this, 'message', count)
      handler.set?.call(this, value)
    },
  })
}
const fetch_ = globalThis.fetch
globalThis.fetch = (input, init) => {
  received.fetched.push(String(input instanceof Request ? input.url : input))
  return fetch_(input, init)
}

let loader: ExpertLoader | undefined
const experts = new Map<string, Expert>()

const theLoader = () => {
  if (!loader) throw new Error('no loader')
  return loader
}
/** Experts by id, with a weight and maybe a binding. */
export type HarnessSet = [id: string, weight: number, binding?: ExpertRequest['binding']][]

const choice = (set: HarnessSet) =>
  set.map(([id, weight, binding]) => ({ expert: experts.get(id) as Expert, weight, binding }))

const harness = {
  received,
  /** Tokens of the generation that began last. */
  written: 0,

  async open(options: Partial<LoaderOptions> = {}) {
    loader = await ExpertLoader.create({ model: '/models/demo', ...options })
    return loader.info
  },

  async load(
    source: string | { bytes: number[] },
    id: string,
    rootHash?: string,
    binding?: ExpertRequest['binding'],
  ) {
    const from = typeof source === 'string' ? source : Uint8Array.from(source.bytes).buffer
    const expert = await theLoader().load({ source: from, id, rootHash, binding })
    experts.set(id, expert)
    const { release: _, ...info } = expert
    return info
  },

  async tryLoad(source: string, id: string, rootHash?: string) {
    try {
      await theLoader().load({ source, id, rootHash })
      return undefined
    } catch (error) {
      return plainError(error)
    }
  },

  activate: (set: HarnessSet) => theLoader().activate(choice(set)),

  async tokens(prompt: string | ChatMessage[], maxNewTokens: number, set?: HarnessSet) {
    const tokens: number[] = []
    this.written = 0
    for await (const { token } of theLoader().generate(prompt, {
      maxNewTokens,
      experts: set && choice(set),
    })) {
      this.written = tokens.push(token)
    }
    return tokens
  },

  /** Two generations at once with experts of their own, while the default goes through a list of sets. */
  async together(calls: { prompt: string; newTokens: number; set: HarnessSet }[], switches: HarnessSet[]) {
    const running = calls.map(({ prompt, newTokens, set }) => this.tokens(prompt, newTokens, set))
    for (const set of switches) await theLoader().activate(choice(set))
    return Promise.all(running)
  },

  async tryTokens(prompt: string, maxNewTokens: number) {
    try {
      return await this.tokens(prompt, maxNewTokens)
    } catch (error) {
      return plainError(error)
    }
  },

  logits: async (prompt: string, set?: HarnessSet) =>
    Array.from(await theLoader().logits(prompt, set && choice(set))),
  tokenize: (text: string) => theLoader().tokenize(text),
  score: (tokens: number[], set?: HarnessSet) => theLoader().score(tokens, set && choice(set)),
  stats: () => theLoader().stats(),
  hash: () => theLoader().hashWeights(),
  checksum: () => theLoader().checksum(),

  /** People's own code: a transformers.js pipeline from `url`, experts attached, one active, and off again. */
  async attached(url: string, prompt: string, newTokens: number, expert: string) {
    const folder = new URL(url, location.href)
    env.allowLocalModels = true
    env.allowRemoteModels = false
    env.useBrowserCache = false
    env.useWasmCache = false
    env.fetch = (input: RequestInfo | URL, init?: RequestInit) => fetch_(input, init)
    env.localModelPath = new URL('..', folder).pathname
    const wasm = env.backends.onnx.wasm
    if (wasm) wasm.wasmPaths = ORT_FILES
    const generator = await pipeline('text-generation', folder.pathname.split('/').at(-2) as string, {
      device: 'webgpu',
      dtype: 'fp32',
    })
    const write = async () => {
      const [{ generated_text }] = (await generator(prompt, {
        max_new_tokens: newTokens,
        do_sample: false,
      })) as [{ generated_text: string }]
      return generated_text
    }
    const plain = await write()
    const attached = await attachExperts(generator, { model: folder })
    const texts = { plain, attached: await write(), active: '', after: '' }
    const hash = await attached.hashWeights()
    await attached.activate(await attached.load(expert))
    texts.active = await write()
    await attached.deactivate()
    texts.after = await write()
    const exact = (await attached.hashWeights()) === hash
    await attached.dispose()
    return { ...texts, exact }
  },

  /**
   * A text whose experts change from one to another after some tokens, at the seam between sessions and text: the
   * tokens, and of the first forward pass with the second expert how much it read and its last logits.
   */
  async changed(
    url: string,
    prompt: string,
    newTokens: number,
    after: number,
    kv: 'keep' | 'recompute',
    experts: [string, string],
  ) {
    const folder = new URL(url, location.href).href
    const gpu = await requestGpu()
    const source = await fetchGraph(folder, 'onnx/model.onnx')
    const base = await hoistIntoVram(gpu, [source])
    const [{ graph }] = base.graphs
    const host = await ExpertHost.create(base, {
      name: url,
      expertBudget: 64 << 20,
      graphs: { model: { graph, external: source.external } },
    })
    const text = await TextModel.load({
      files: async (path) => {
        if (path === graph.file) return new Response(graph.bytes)
        const response = await fetch_(new URL(path, folder))
        return response.ok ? response : undefined
      },
      ort: ORT_FILES,
      device: gpu.device,
      dtype: 'fp32',
      externalFiles: externalFilesOf(graph),
    })
    const fetches = new LocalFetches({ cacheBudget: 0 })
    for (const id of experts) {
      const { port, signal } = fetches.load({ source: id, kind: 'expert', name: id }, {})
      await host.loaded.load(id, id, port, signal)
    }
    const { runtime, loaded } = host
    await loaded.activate([{ expert: experts[0], weight: 1 }])
    const first = runtime.current
    const context = runtime.passContext()
    if (kv === 'recompute') context.pin()
    let seen: { read: number; logits: number[] } | undefined
    const { model } = runtime.sessions(text.sessions, context)
    const spied = new Proxy(model, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target)
        if (key !== 'run') return value
        return async (feeds: Record<string, { dims: number[] }>, ...rest: unknown[]) => {
          const output = await target.run(feeds, ...rest)
          if (seen === undefined && context.ran !== first) {
            const { data, dims } = output.logits as { data: Float32Array; dims: number[] }
            seen = { read: feeds.input_ids.dims[1], logits: Array.from(data.slice(-dims[2])) }
          }
          return output
        }
      },
    })
    const tokens: number[] = []
    /** Tokens that the first pass with the second expert saw. */
    let seenTokens = 0
    let switched: Promise<unknown> | undefined
    const prompted = text.encode(prompt)
    const onToken = (token: number) => {
      if (context.ran !== first && seenTokens === 0) seenTokens = prompted.length + tokens.length
      tokens.push(token)
      if (tokens.length === after) switched = loaded.activate([{ expert: experts[1], weight: 1 }])
      return kv === 'recompute' && context.pin()
    }
    await text.generate({ ids: prompted }, { model: spied }, onToken, { maxNewTokens: newTokens })
    await switched
    context.end()
    await runtime.releaseSessions()
    await text.dispose()
    host.destroy()
    gpu.device.destroy()
    fetches.dispose()
    return { ids: [...prompted, ...tokens].slice(0, seenTokens), ...seen }
  },

  /** A plain transformers.js session over the ONNX folder at `url`, on this thread. */
  async plain(url: string, prompts: readonly string[], newTokens: readonly number[]) {
    const { device } = await requestGpu()
    const model = await TextModel.load({
      files: async (path) => {
        const response = await fetch_(new URL(path, new URL(url, location.href)))
        return response.ok ? response : undefined
      },
      ort: ORT_FILES,
      device,
      dtype: 'fp32',
    })
    const results = []
    for (const [i, prompt] of prompts.entries()) {
      const { data, vocabulary } = await model.logits(model.encode(prompt), model.sessions)
      const tokens: number[] = []
      if (newTokens[i] > 0) {
        const onToken = (token: number) => {
          tokens.push(token)
          return false
        }
        await model.generate({ ids: model.encode(prompt) }, model.sessions, onToken, {
          maxNewTokens: newTokens[i],
        })
      }
      results.push({ logits: Array.from(data.slice(-vocabulary)), tokens })
    }
    await model.dispose()
    return results
  },
}

export type Harness = typeof harness
declare global {
  interface Window {
    harness: Harness
  }
}
window.harness = harness
