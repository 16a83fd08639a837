/** A page and its workers on this thread: real links and engines over models without a GPU. */
import type { Endpoint } from 'comlink'
import { vi } from 'vitest'
import { Engine } from '../../src/engine/engine.ts'
import type { OpenModel } from '../../src/engine/open_model.ts'
import type { TextModel } from '../../src/engine/text_model.ts'
import { serve } from '../../src/rpc/index.ts'
import { type FakeModel, fakeModel } from '../engine/fake_model.ts'
import { type FakeFiles, fakeFiles, serveFile } from './fake_host.ts'

export interface FakeEngine extends FakeModel {
  /** Names of the calls that came from the page. */
  calls: string[]
  terminated: boolean
  /** Dies as a worker does whose script threw. */
  crash(): void
  loseDevice(): void
}

export interface FakePage {
  files: FakeFiles
  /** In the order in which they were started. */
  engines: FakeEngine[]
  /** Bytes of experts that fit into engines that start from now on. */
  budget: number
  /** What engines generate with that start from now on; token n is n by default. */
  text?: TextModel
  /** Waited for while an engine opens its model. */
  beforeOpen: Promise<unknown>
  /** Waited for by each switch of engines that start from now on. */
  beforeSwitch: Promise<unknown>
  /** What a server answers that is asked for the head of a file alone. */
  heads: (url: string) => Response
}

/** Puts workers, a document and a prepared model folder in place of those that Node lacks. */
export function fakePage(): FakePage {
  const page: FakePage = {
    files: fakeFiles(),
    engines: [],
    budget: Number.POSITIVE_INFINITY,
    beforeOpen: Promise.resolve(),
    beforeSwitch: Promise.resolve(),
    heads: () => new Response(null, { headers: { 'Content-Length': '10' } }),
  }
  class FakeWorker extends EventTarget {
    readonly #port: MessagePort

    constructor(script: string | URL) {
      super()
      const { port1, port2 } = new MessageChannel()
      this.#port = port1
      port1.onmessage = ({ data }) => this.dispatchEvent(new MessageEvent('message', { data }))
      serve(
        String(script).includes('engine') ? this.#engine(port2) : fetchWorker(page),
        port2 as unknown as Endpoint,
      )
      port2.start()
    }

    postMessage(message: unknown, transfer: Transferable[] = []): void {
      this.#port.postMessage(message, transfer)
    }

    terminate(): void {
      this.#port.close()
      this.dispatchEvent(new Event('terminate'))
    }

    #engine(_port: MessagePort): Engine {
      let lose = (_message: string) => {}
      const model = fakeModel(page.budget)
      if (page.text !== undefined) Object.assign(model.open, { text: page.text })
      model.beforeSwitch = page.beforeSwitch
      const open = async (...args: unknown[]): Promise<OpenModel> => {
        lose = args.find((arg) => typeof arg === 'function') as typeof lose
        await page.beforeOpen
        return model.open
      }
      const fake: FakeEngine = Object.assign(model, {
        calls: [],
        terminated: false,
        crash: () => this.dispatchEvent(Object.assign(new Event('error'), { message: 'out of memory' })),
        loseDevice: () => lose('reset'),
      })
      this.addEventListener('terminate', () => {
        fake.terminated = true
      })
      page.engines.push(fake)
      const engine = new Engine({ openPrepared: open, openUnprepared: open })
      return new Proxy(engine, {
        get(target, key) {
          const value: unknown = Reflect.get(target, key)
          if (typeof value !== 'function') return value
          fake.calls.push(String(key))
          return value.bind(target)
        },
      })
    }
  }
  vi.stubGlobal('Worker', FakeWorker)
  vi.stubGlobal('document', { baseURI: 'https://page.example/' })
  vi.stubGlobal('location', { href: 'file:///', origin: 'null' })
  vi.stubGlobal('__TRITSWAP_ORT_GLUE__', '/ort/glue.mjs')
  vi.stubGlobal('__TRITSWAP_ORT_WASM__', '/ort/ort.wasm')
  vi.stubGlobal('__TRITSWAP_GRAMMAR__', '/ort/grammar.mjs')
  vi.stubGlobal('fetch', async (url: string, { method }: RequestInit = {}) => {
    if (method === 'HEAD') return page.heads(url)
    const manifest = {
      version: 1,
      weights: { file: 'base.trit', bytes: 1, rootHash: '0'.repeat(64) },
      dtype: 'fp32',
    }
    return url.endsWith('tritswap.json') ? Response.json(manifest) : new Response(null, { status: 404 })
  })
  return page
}

function fetchWorker(page: FakePage) {
  return {
    fetch: (
      request: Parameters<typeof serveFile>[1],
      port: MessagePort,
      _settings: unknown,
      signal: AbortSignal,
    ) => serveFile(page.files, request, port, signal),
    forget() {},
  }
}
