import { ALIGNMENT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import type { Bindings } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import type { TargetDtype } from '../target.ts'
import { tuningOf } from '../tuning.ts'
import type { WeightStore } from '../weights/weight_store.ts'

/** Where a buffer of weights is bound. */
export interface WeightSlot {
  /** Buffers of one group are bound together. */
  group: number
  slot: number
}

/**
 * Which buffers of weights are bound together: each in a slot of one group, for as long as the weights are there. What all
 * experts do to a group then has the same buffers to write, and their journals can be divided in the same way.
 */
export class WeightSlots {
  readonly #slots: number
  readonly #of = new Map<GPUBuffer, WeightSlot>()
  readonly #groups: GPUBuffer[][] = []
  readonly #bindings = new Map<number, Bindings>()
  /** Bound where a group has no buffer: a range of it in each slot, because no two may overlap. */
  readonly #unused: GPUBuffer | undefined

  /** @throws {TritswapError} `memory` */
  static async create(gpu: Gpu, weights: Pick<WeightStore, 'floatPlacements'>): Promise<WeightSlots> {
    const { slots } = tuningOf(gpu)
    const [unused] = await createBuffers(gpu, 'placeholders', slots > 1 ? [slots * ALIGNMENT] : [])
    return new WeightSlots(slots, weights, unused)
  }

  private constructor(
    slots: number,
    weights: Pick<WeightStore, 'floatPlacements'>,
    unused: GPUBuffer | undefined,
  ) {
    this.#slots = slots
    this.#unused = unused
    // Tensors of one kind together, layer after layer: an expert that changes some kinds only fills whole groups. Vectors come
    // apart from matrices, because their deltas are dense as a rule and have another kernel.
    const collator = new Intl.Collator('en', { numeric: true })
    const sorted = weights
      .floatPlacements()
      .map(({ placement, shape }) => ({
        placement,
        dimensions: shape.length,
        kind: placement.tensor.replace(/\d+/g, ''),
      }))
      .sort(
        (a, b) =>
          b.dimensions - a.dimensions ||
          collator.compare(a.kind, b.kind) ||
          collator.compare(a.placement.tensor, b.placement.tensor),
      )
    const last = new Map<TargetDtype, number>()
    for (const {
      placement: { buffer, dtype },
    } of sorted) {
      if (this.#of.has(buffer)) continue
      let group = last.get(dtype)
      if (group === undefined || (slots > 1 && this.#groups[group].length === slots)) {
        group = this.#groups.push([]) - 1
        last.set(dtype, group)
      }
      this.#of.set(buffer, { group, slot: this.#groups[group].push(buffer) - 1 })
    }
  }

  /** Whether a dispatch can have tensors in several buffers. */
  get takesMany(): boolean {
    return this.#slots > 1
  }

  /** @throws {Error} for a buffer without weights */
  of(buffer: GPUBuffer): WeightSlot {
    const slot = this.#of.get(buffer)
    if (slot === undefined) throw new Error('a buffer of weights has no slot')
    return slot
  }

  /** The buffers of a group as kernels that take a list bind them. */
  bindings(group: number): Bindings {
    let bindings = this.#bindings.get(group)
    if (bindings === undefined) {
      const slots = Array.from({ length: this.#slots }, (_, slot) => {
        const buffer = this.#groups[group][slot]
        const unused = { buffer: this.#unused as GPUBuffer, offset: slot * ALIGNMENT, size: ALIGNMENT }
        return [`weights_${slot}`, buffer === undefined ? unused : { buffer }] as const
      })
      bindings = Object.fromEntries(slots)
      this.#bindings.set(group, bindings)
    }
    return bindings
  }

  destroy(): void {
    this.#unused?.destroy()
  }
}
