import { ALIGNMENT } from '../batch.ts'
import type { Gpu } from '../device.ts'

/** Room in a new buffer, in times of what is asked for: more than the recipes that are kept, and the one that is made. */
const ROOM = 12

interface Span {
  offset: number
  bytes: number
}

interface Page {
  buffer: GPUBuffer
  /** In ascending order. */
  used: Span[]
}

/** Uniform memory of one recipe, until it is given back. */
export interface ListSpan {
  buffer: GPUBuffer
  offset: number
  giveBack(): void
}

/** Uniform memory for lists of jobs. All of it is in one buffer as a rule, so that what is bound with it serves every list. */
export class ListMemory {
  readonly #gpu: Gpu
  /** Where the next span comes from. Others are destroyed with their last span. */
  #page: Page | undefined

  constructor(gpu: Gpu) {
    this.#gpu = gpu
  }

  /** @param bytes - a multiple of {@link ALIGNMENT} */
  take(bytes: number): ListSpan {
    const page = this.#page
    const offset = page && firstFit(page, bytes)
    if (page !== undefined && offset !== undefined) return this.#insert(page, offset, bytes)
    const larger = this.#newPage(Math.max(ROOM * bytes, 2 * (page?.buffer.size ?? 0)))
    this.trim()
    this.#page = larger
    return this.#insert(larger, 0, bytes)
  }

  /** Takes no more from the buffer that it has; it is gone once nothing in it is used. */
  trim(): void {
    const page = this.#page
    this.#page = undefined
    if (page?.used.length === 0) page.buffer.destroy()
  }

  #newPage(bytes: number): Page {
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST
    const size = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
    return { buffer: this.#gpu.device.createBuffer({ label: 'jobs', size, usage }), used: [] }
  }

  #insert(page: Page, offset: number, bytes: number): ListSpan {
    const span = { offset, bytes }
    page.used.push(span)
    page.used.sort((a, b) => a.offset - b.offset)
    return {
      buffer: page.buffer,
      offset,
      giveBack: () => {
        page.used = page.used.filter((other) => other !== span)
        if (page !== this.#page && page.used.length === 0) page.buffer.destroy()
      },
    }
  }
}

function firstFit({ buffer, used }: Page, bytes: number): number | undefined {
  let at = 0
  for (const span of used) {
    if (span.offset - at >= bytes) return at
    at = span.offset + span.bytes
  }
  return at + bytes <= buffer.size ? at : undefined
}
