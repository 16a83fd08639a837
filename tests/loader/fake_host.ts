/**
 * Experts without a GPU: ids, sets, passes and switches are the real ones; the store only counts bytes, and a switch
 * only writes a line.
 */
import { abortable } from '../../src/async/abortable.ts'
import { TritswapError } from '../../src/errors.ts'
import type { FetchHandle, FetchOptions } from '../../src/fetcher/pool.ts'
import type { FetchedFile, FetchRequest, FileMessage } from '../../src/fetcher/protocol.ts'
import type { TritHead } from '../../src/format/index.ts'
import type { GpuTimings, SetEntry, SwitchOptions } from '../../src/gpu/index.ts'
import { ExpertAdmission } from '../../src/model/expert_admission.ts'
import type { ExpertHost } from '../../src/model/expert_host.ts'
import { ExpertRuntime } from '../../src/model/expert_runtime.ts'
import { LayerGroups } from '../../src/model/layer_groups.ts'
import { LoadedExperts } from '../../src/model/loaded_experts.ts'
import { SiteIndex } from '../../src/model/site_index.ts'

/** Of the base that all fakes are for. */
const FINGERPRINT = 'f'.repeat(64)

class FakeExpert {
  references = 1
  evicted = false
  readonly rootHash: string
  readonly bytes: number
  readonly table: TritHead['table']

  constructor({ rootHash, payloadBytes, table }: TritHead) {
    this.rootHash = rootHash
    this.bytes = payloadBytes
    this.table = table
  }

  retain(): this {
    if (this.evicted) throw new TritswapError('released', `Cannot use ${this.rootHash}: it is gone`)
    this.references++
    return this
  }

  release(): void {
    this.references--
  }
}

/** The least recently used expert that nothing holds goes first, as in `ExpertStore`. */
class FakeStore {
  readonly residents = new Set<FakeExpert>()
  readonly #budget: number
  readonly #log: (line: string) => void

  constructor(budget: number, log: (line: string) => void) {
    this.#budget = budget
    this.#log = log
  }

  async begin(head: TritHead) {
    const bytesOf = (experts: Iterable<FakeExpert>) =>
      Array.from(experts).reduce((sum, { bytes }) => sum + bytes, 0)
    const idle = [...this.residents].filter(({ references }) => references === 0)
    let missing = bytesOf(this.residents) + head.payloadBytes - this.#budget
    if (missing > bytesOf(idle)) {
      throw new TritswapError('memory', `Cannot load ${head.rootHash}`, { fields: { budget: this.#budget } })
    }
    for (const expert of idle) {
      if (missing <= 0) break
      missing -= expert.bytes
      expert.evicted = true
      this.residents.delete(expert)
      this.#log(`evict ${expert.rootHash}`)
    }
    const expert = new FakeExpert(head)
    this.residents.add(expert)
    const cancel = () => {}
    return { write() {}, finish: async () => expert, cancel }
  }

  find(rootHash: string): FakeExpert | undefined {
    const found = [...this.residents].find((expert) => expert.rootHash === rootHash)
    if (found) this.touch(found)
    return found
  }

  touch(expert: FakeExpert): void {
    if (this.residents.delete(expert)) this.residents.add(expert)
  }
}

export interface FakeHost {
  host: ExpertHost
  /** Root hashes of what is merged into the weights. */
  merged: () => string[]
  residents: () => string[]
  log: string[]
  /** Waited for by each switch. */
  beforeSwitch: Promise<unknown>
  /** When the GPU is done, of switches that are measured. */
  gpuEnd: Promise<GpuTimings>
  destroyed: boolean
}

/** @param budget - bytes of experts that fit */
export function fakeHost(budget = Number.POSITIVE_INFINITY): FakeHost {
  const log: string[] = []
  const store = new FakeStore(budget, (line) => log.push(line))
  let current: readonly SetEntry[] = []
  const switcher = {
    check() {},
    async prepare() {},
    prepareSet: () => undefined,
    async apply(set: readonly SetEntry[], { timed }: SwitchOptions = {}) {
      await fake.beforeSwitch
      for (const { expert } of set) expert.retain()
      for (const { expert } of current) expert.release()
      current = set
      for (const { expert } of set) store.touch(expert as never)
      log.push(`switch ${fake.merged().join('+') || 'base'}`)
      return { finished: timed ? fake.gpuEnd : undefined }
    },
  }
  const runtime = new ExpertRuntime({ weights: { feeds: () => [] }, switcher: switcher as never })
  const weights = {
    knows: () => true,
    sketchValues: async () => new Float32Array(),
    floatPlacementsOf: () => [{ input: 'w', dtype: 'float32' }],
    isQuantized: () => false,
  }
  const admission = new ExpertAdmission({
    weights: weights as never,
    experts: store as never,
    switcher: switcher as never,
    runtime,
    base: {
      name: 'fake',
      fingerprint: FINGERPRINT,
      dtype: 'f32',
      shapes: new Map([['w', [8]]]),
      sketches: new Map(),
    },
    sites: new SiteIndex([]),
    layers: new LayerGroups(['layers.0.w', 'layers.1.w', 'w']),
    costs: { software: false, copyBudget: 2 ** 30 },
  })
  const loaded = new LoadedExperts(store as never, admission, runtime)
  const host = {
    runtime,
    loaded,
    gpu: { adapter: {}, device: { destroy() {} }, lost: new AbortController().signal },
    dtype: 'f32',
    stats: () => ({ active: loaded.namesOf(runtime.current) }),
    destroy: () => {
      fake.destroyed = true
    },
  } as unknown as ExpertHost
  const fake: FakeHost = {
    host,
    merged: () => current.map(({ expert }) => expert.rootHash),
    residents: () => Array.from(store.residents, ({ rootHash }) => rootHash),
    log,
    beforeSwitch: Promise.resolve(),
    gpuEnd: Promise.resolve({ totalMs: 1 }),
    destroyed: false,
  }
  return fake
}

/** A file that is nothing but its size; its root hash is its name without folders and `.trit`. */
export interface FakeFiles {
  /** Bytes by root hash; 1000 where nothing is said. */
  bytes: Record<string, number>
  /** Of those that are activated LoRAs, by root hash. */
  invocations?: Record<string, readonly number[]>
  /** They do not say what base they are for. */
  unknownBase?: boolean
  /** Root hashes in the order in which they were asked for. */
  fetched: string[]
  /** Waited for by each fetch, before it sends anything. */
  before: (rootHash: string) => Promise<unknown> | undefined
}

export function fakeFiles(bytes: Record<string, number> = {}): FakeFiles {
  return { bytes, fetched: [], before: () => undefined }
}

/** What a fetch worker does. */
export async function serveFile(
  files: FakeFiles,
  { source }: FetchRequest,
  port: MessagePort | undefined,
  signal?: AbortSignal,
): Promise<FetchedFile> {
  const rootHash = String(source).split('/').at(-1)?.replace('.trit', '') as string
  files.fetched.push(rootHash)
  await abortable(Promise.resolve(files.before(rootHash)), signal)
  const payloadBytes = files.bytes[rootHash] ?? 1000
  const tensor = {
    name: 'w',
    target: 'w',
    role: 'delta',
    shape: [8],
    codec: 'ternary',
    kept: 2,
    bytes: payloadBytes,
  }
  const table = {
    kind: 'expert',
    method: 'full',
    invocation: files.invocations?.[rootHash],
    tensors: [tensor],
    compression: {},
    base: { fingerprint: files.unknownBase ? undefined : FINGERPRINT },
  }
  const head = { table, rootHash, payloadBytes, headBytes: 0 } as unknown as TritHead
  port?.postMessage({ type: 'head', name: rootHash, head } satisfies FileMessage)
  port?.postMessage({ type: 'end' } satisfies FileMessage)
  const times = { totalMs: 9, fetchMs: 4, verifyMs: 2, cacheMs: 1 }
  const stats = { ...times, networkBytes: payloadBytes, cacheBytes: 0, requests: 1, retries: 0 }
  return { name: rootHash, rootHash, fileBytes: payloadBytes, table: table as never, stats }
}

/** Loads of fake files on this thread. */
export function fakeFetches(files: FakeFiles) {
  return {
    load(request: FetchRequest, { signal }: FetchOptions = {}): FetchHandle {
      const { port1, port2 } = new MessageChannel()
      const failed = new AbortController()
      const done = serveFile(files, request, port1, signal).then((file) => {
        signal?.throwIfAborted()
        return file
      })
      done.catch((error) => failed.abort(error))
      return { port: port2, done, signal: failed.signal }
    },
    dispose() {},
  }
}
