import type { Gpu } from '../device.ts'
import { createBuffers } from '../memory.ts'

/** A run of words in the arena. `first` changes when the arena is compacted. */
export interface Region {
  first: number
  words: number
}

/**
 * One GPUBuffer for all resident experts, so that a kernel that reads eight of them needs one binding. Space is given
 * first fit; when nothing fits, a buffer of exactly the size needed takes over and everything moves together in it.
 */
export class Arena {
  readonly #gpu: Gpu
  #buffer: GPUBuffer | undefined
  /** In ascending order. */
  #regions: Region[] = []

  constructor(gpu: Gpu) {
    this.#gpu = gpu
  }

  /** @throws {Error} while nothing is allocated */
  get buffer(): GPUBuffer {
    if (this.#buffer === undefined) throw new Error('the arena is empty')
    return this.#buffer
  }

  /** Size of the buffer. */
  get bytes(): number {
    return this.#buffer?.size ?? 0
  }

  /** Not reentrant: wait for one call before the next. @throws {TritswapError} `memory` */
  async allocate(words: number): Promise<Region> {
    return this.#fit(words) ?? (await this.#grow(words))
  }

  free(region: Region): void {
    this.#regions = this.#regions.filter((other) => other !== region)
    if (this.#regions.length === 0) this.destroy()
  }

  destroy(): void {
    this.#buffer?.destroy()
    this.#buffer = undefined
    this.#regions = []
  }

  #fit(words: number): Region | undefined {
    let first = 0
    for (const [i, region] of this.#regions.entries()) {
      if (region.first - first >= words) return this.#insert(i, first, words)
      first = region.first + region.words
    }
    return first + words <= this.bytes / 4 ? this.#insert(this.#regions.length, first, words) : undefined
  }

  #insert(at: number, first: number, words: number): Region {
    const region = { first, words }
    this.#regions.splice(at, 0, region)
    return region
  }

  async #grow(words: number): Promise<Region> {
    const needed = this.#regions.reduce((sum, region) => sum + region.words, words)
    const [grown] = await createBuffers(this.#gpu, 'the resident experts', [needed * 4])
    const old = this.#buffer
    let first = 0
    if (old !== undefined) {
      const encoder = this.#gpu.device.createCommandEncoder()
      for (const region of this.#regions) {
        encoder.copyBufferToBuffer(old, region.first * 4, grown, first * 4, region.words * 4)
        region.first = first
        first += region.words
      }
      this.#gpu.device.queue.submit([encoder.finish()])
      old.destroy()
    }
    this.#buffer = grown
    return this.#insert(this.#regions.length, first, words)
  }
}
