import { ALIGNMENT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { checkSize, createBuffers, largestBuffer } from '../memory.ts'

/** A span of a journal. Dispatches that write spans of different groups write different buffers, so they need not wait for each other. */
export interface SpanRequest {
  bytes: number
  group: number
}

/** Room that is kept for the next set of experts, as a share of what this one takes. */
const SPARE_ROOM = 1 / 16

interface Layout {
  /** Of each buffer, by group and number in it. */
  sizes: ReadonlyMap<string, number>
  spans: readonly { buffer: string; offset: number; size: number }[]
  bytes: number
}

/** The raw words that one active set has displaced, in spans of few buffers. */
export class Journal {
  readonly #buffers: ReadonlyMap<string, GPUBuffer>
  readonly #spans: readonly GPUBufferBinding[]

  /**
   * @param keeps - whether another set may take over its buffers later
   * @throws {TritswapError} `memory`
   */
  static async create(gpu: Gpu, requests: readonly SpanRequest[], keeps = false): Promise<Journal> {
    const layout = layOut(gpu, requests)
    const limit = largestBuffer(gpu)
    const sizes = Array.from(layout.sizes.values(), (size) => {
      const room = keeps ? Math.ceil((size * SPARE_ROOM) / ALIGNMENT) * ALIGNMENT : 0
      return Math.max(size, Math.min(size + room, Math.floor(limit / ALIGNMENT) * ALIGNMENT))
    })
    const buffers = await createBuffers(gpu, 'the journal', sizes)
    return new Journal(new Map(Array.from(layout.sizes.keys(), (key, i) => [key, buffers[i]])), layout)
  }

  private constructor(buffers: ReadonlyMap<string, GPUBuffer>, { spans }: Layout) {
    this.#buffers = buffers
    this.#spans = spans.map(({ buffer, offset, size }) => ({
      buffer: buffers.get(buffer) as GPUBuffer,
      offset,
      size,
    }))
  }

  get bytes(): number {
    let bytes = 0
    for (const { size } of this.#buffers.values()) bytes += size
    return bytes
  }

  /** What identifies its buffers, whichever set has them. */
  get slot(): object {
    return this.#buffers
  }

  /** What to bind for span `index`. */
  span(index: number): GPUBufferBinding {
    return this.#spans[index]
  }

  /**
   * A journal of these spans in the buffers of this one, which is not to be used any more; undefined if they do not fit, or
   * fit twice.
   */
  reused(gpu: Gpu, requests: readonly SpanRequest[]): Journal | undefined {
    const layout = layOut(gpu, requests)
    for (const [key, size] of layout.sizes) if ((this.#buffers.get(key)?.size ?? 0) < size) return undefined
    return this.bytes > 2 * layout.bytes ? undefined : new Journal(this.#buffers, layout)
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy()
  }
}

function layOut(gpu: Gpu, requests: readonly SpanRequest[]): Layout {
  const limit = largestBuffer(gpu)
  const sizes = new Map<string, number>()
  const last = new Map<number, number>()
  let total = 0
  const spans = requests.map(({ bytes, group }) => {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT)
    checkSize(gpu, 'a journal', size)
    let number = last.get(group) ?? 0
    if ((sizes.get(`${group} ${number}`) ?? 0) + size > limit) number++
    last.set(group, number)
    const buffer = `${group} ${number}`
    const offset = sizes.get(buffer) ?? 0
    sizes.set(buffer, offset + size)
    total += size
    return { buffer, offset, size }
  })
  return { sizes, spans, bytes: total }
}
