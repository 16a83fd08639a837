/**
 * The buffers that feed the bypasses of a set of experts. Codes and constants are shared between sets; everything else
 * belongs to one set.
 *
 * @module
 */
import type { FloatInputDtype } from '../format/dtype.ts'
import { weightsOf } from '../format/index.ts'
import type { ResidentExpert, UnpackRequest } from '../gpu/index.ts'
import type { BypassInput } from '../onnx/index.ts'
import type { GraphPlan, SitePlan } from './bypass_plan.ts'
import { codesKey, codesRequest, rankAt, requestFor } from './bypass_requests.ts'

/** What makes buffers: the GPU's `Unpacker`, or the CPU reference. */
export interface Unpacks<B> {
  unpack(requests: readonly UnpackRequest[]): Promise<B[]>
}

interface Buffer {
  /** Bytes. */
  readonly size: number
  destroy(): void
}

/** What a graph input is fed with. */
export interface BypassFeed<B> {
  dtype: BypassInput['dtype']
  dims: readonly number[]
  buffer: B
}

/** Feeds of one set's variants, by graph and input. */
export interface BypassFeeds<B> {
  feeds: ReadonlyMap<string, ReadonlyMap<string, BypassFeed<B>>>
  /** VRAM of the buffers that belong to this set alone. */
  bytes: number
  destroy(): void
}

interface Codes<B> {
  buffer: B
  users: number
}

/** A plan with the inputs of the variant that it needs. */
type PlannedGraph = { plan: GraphPlan; inputs: readonly BypassInput[] }

/**
 * Makes the buffers of sets, and keeps codes that no set uses while their expert is in VRAM and there is room: the next
 * set with that expert takes them as they are.
 */
export class BypassBuffers<B extends Buffer = GPUBuffer> {
  readonly #unpacker: Unpacks<B>
  readonly #budget: number
  /** Least recently used expert first. */
  readonly #codes = new Map<ResidentExpert, Map<string, Codes<B>>>()
  /** Buffers of one number, zero or one, by dtype. */
  readonly #constants = new Map<string, { buffer: B; count: number }>()
  readonly #retired: B[] = []

  /** @param budgetBytes - for codes that no set uses any more */
  constructor(unpacker: Unpacks<B>, budgetBytes: number) {
    this.#unpacker = unpacker
    this.#budget = budgetBytes
  }

  /** VRAM of codes and constants. */
  get bytes(): number {
    let sum = 0
    for (const { buffer } of this.#constants.values()) sum += buffer.size
    for (const expert of this.#codes.keys()) sum += this.bytesOf(expert)
    return sum
  }

  /** VRAM of an expert's codes. */
  bytesOf(expert: ResidentExpert): number {
    return [...(this.#codes.get(expert)?.values() ?? [])].reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  /**
   * Buffers for a set.
   * @param graphs - by the names of their sessions
   * @throws {TritswapError} `memory`, `released`; then no new buffer stays
   */
  async fill(graphs: ReadonlyMap<string, PlannedGraph>): Promise<BypassFeeds<B>> {
    const held: Codes<B>[] = []
    const release = () => {
      for (const codes of held.splice(0)) codes.users--
      this.#trim()
    }
    try {
      await this.#holdCodes(graphs, held)
      const feeds = new Map<string, Map<string, BypassFeed<B>>>()
      const requests: UnpackRequest[] = []
      const takers: ((buffer: B) => void)[] = []
      for (const [graph, { plan, inputs }] of graphs) {
        const own = new Map<string, BypassFeed<B>>()
        feeds.set(graph, own)
        for (const input of inputs) {
          const { name, kind, dims, dtype } = input
          if (kind === 'ones') {
            const buffer = await this.#constantOf(1, weightsOf(dims), dtype as FloatInputDtype)
            own.set(name, { dtype, dims, buffer })
            continue
          }
          const found = plan.sites.get(input.site as string)
          if ((kind === 'down' || kind === 'up') && !found?.lowRank.length) {
            // The variant has room for experts that are not in this set.
            const sizes = dims.map((size) => (size < 0 ? 1 : size))
            const buffer = await this.#constantOf(0, weightsOf(sizes), dtype as FloatInputDtype)
            own.set(name, { dtype, dims: sizes, buffer })
            continue
          }
          const site = found as SitePlan
          if (kind === 'codes') {
            own.set(name, { dtype, dims, buffer: this.#codesFor(site, input.side as number) })
            continue
          }
          const sizes = dims.map((size) => (size < 0 ? rankAt(site) : size))
          requests.push(requestFor(input, site))
          takers.push((buffer) => own.set(name, { dtype, dims: sizes, buffer }))
        }
      }
      const buffers = await this.#unpacker.unpack(requests)
      for (const [i, take] of takers.entries()) take(buffers[i])
      return {
        feeds,
        bytes: buffers.reduce((sum, { size }) => sum + size, 0),
        destroy: () => {
          for (const buffer of buffers) buffer.destroy()
          release()
        },
      }
    } catch (error) {
      release()
      throw error
    }
  }

  destroy(): void {
    for (const codes of this.#codes.values()) for (const { buffer } of codes.values()) buffer.destroy()
    for (const { buffer } of this.#constants.values()) buffer.destroy()
    for (const buffer of this.#retired) buffer.destroy()
    this.#codes.clear()
    this.#constants.clear()
  }

  /** A side input without an expert has another one's codes, and a strength of 0. */
  #codesFor({ site, side }: SitePlan, index: number): B {
    const terms = side[index] ?? side[0]
    return this.#codes.get(terms[0].expert)!.get(codesKey(site, terms))!.buffer
  }

  /** Makes the codes that are missing, and counts the set as a user of all that it needs. */
  async #holdCodes(graphs: ReadonlyMap<string, PlannedGraph>, held: Codes<B>[]): Promise<void> {
    const wanted = new Map<ResidentExpert, Map<string, UnpackRequest>>()
    for (const { site, side } of [...graphs.values()].flatMap(({ plan }) => [...plan.sites.values()])) {
      for (const terms of side) {
        const [{ expert }] = terms
        const requests = wanted.get(expert) ?? new Map<string, UnpackRequest>()
        wanted.set(expert, requests.set(codesKey(site, terms), codesRequest(site, terms)))
      }
    }
    const all = Array.from(wanted, ([expert, requests]) =>
      Array.from(requests, ([key, request]) => ({ expert, key, request })),
    ).flat()
    const missing = all.filter(({ expert, key }) => !this.#codes.get(expert)?.has(key))
    const buffers = await this.#unpacker.unpack(missing.map(({ request }) => request))
    for (const [i, { expert, key }] of missing.entries()) {
      const codes = this.#codes.get(expert) ?? new Map<string, Codes<B>>()
      // Another set may have made the same codes in the meantime.
      if (codes.has(key)) buffers[i].destroy()
      else codes.set(key, { buffer: buffers[i], users: 0 })
      this.#codes.set(expert, codes)
    }
    for (const { expert, key } of all) {
      const codes = this.#codes.get(expert)!
      this.#codes.delete(expert)
      this.#codes.set(expert, codes)
      const found = codes.get(key)!
      found.users++
      held.push(found)
    }
  }

  /** The same number for every site: one buffer, as long as the longest that any site asked for. */
  async #constantOf(value: 0 | 1, count: number, dtype: FloatInputDtype): Promise<B> {
    const key = `${value} ${dtype}`
    const known = this.#constants.get(key)
    if (known !== undefined && known.count >= count) return known.buffer
    const [buffer] = await this.#unpacker.unpack([{ kind: 'floats', dtype, count, from: value, parts: [] }])
    // Sets that are fed with the shorter one go on using it.
    if (known !== undefined) this.#retired.push(known.buffer)
    this.#constants.set(key, { buffer, count })
    return buffer
  }

  /** Destroys codes without users: the next set that wants them makes them anew. */
  trim(): void {
    this.#trim(0)
  }

  /** Destroys codes without users whose expert was evicted, or that are over the budget. */
  #trim(budget = this.#budget): void {
    let bytes = this.bytes
    for (const [expert, codes] of this.#codes) {
      for (const [key, { buffer, users }] of codes) {
        if (users > 0 || (!expert.evicted && bytes <= budget)) continue
        bytes -= buffer.size
        buffer.destroy()
        codes.delete(key)
      }
      if (codes.size === 0) this.#codes.delete(expert)
    }
  }
}
