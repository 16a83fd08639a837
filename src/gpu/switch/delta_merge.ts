import type { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { dispatchJob, wordsOfTile } from '../job.ts'
import { type Kernel, type Params, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import { streamForm } from '../stream_form.ts'
import type { TargetDtype } from '../target.ts'
import { type ActiveSet, streamOf, type TensorChange } from './active_set.ts'
import type { WeightedTensor } from './plan.ts'

/** A change, and the set that it belongs to. */
export interface ChangeOfSet {
  set: ActiveSet
  change: TensorChange
}

const KERNELS = ['apply', 'revert', 'fused', 'blend', 'dense'] as const
type MergeKernel = (typeof KERNELS)[number]

/** Takes a tensor from the deltas of one set to those of another, in a single pass. */
export class DeltaMerge {
  readonly #kernels: Record<MergeKernel, Record<TargetDtype, Kernel>>
  /** Bound for a journal that a kernel has but the switch does not use: one to read, one to write. */
  readonly #unused: readonly GPUBuffer[]

  static async create(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>): Promise<DeltaMerge> {
    const kernels = await targetKernels(gpu, KERNELS, dtypes)
    return new DeltaMerge(kernels, await createBuffers(gpu, 'placeholders', [16, 16]))
  }

  private constructor(
    kernels: Record<MergeKernel, Record<TargetDtype, Kernel>>,
    unused: readonly GPUBuffer[],
  ) {
    this.#kernels = kernels
    this.#unused = unused
  }

  /** Records the merge; does nothing where neither side has deltas. */
  record(batch: Batch, arena: () => GPUBuffer, from?: ChangeOfSet, to?: ChangeOfSet): void {
    const [old, next] = [sideOf(from), sideOf(to)]
    const where = (to ?? from)?.change
    if (where === undefined || old.parts.length + next.parts.length === 0) return
    const { placement, shape } = where
    const name = kernelFor(old.parts, next.parts)
    const bindings = {
      weights: { buffer: placement.buffer },
      arena: { buffer: arena() },
      displaced: old.journal ?? { buffer: this.#unused[0] },
      journal: next.journal ?? { buffer: this.#unused[1] },
    }
    const job = { shape, placement, reverted: old.streams, applied: next.streams }
    dispatchJob(batch, this.#kernels[name][placement.dtype], bindings, job, {
      invocations: name === 'dense' ? wordsOfTile(shape, placement.dtype) : 1,
      work: old.streams.length + next.streams.length,
    })
  }

  destroy(): void {
    for (const buffer of this.#unused) buffer.destroy()
  }
}

/** What one set has on the tensor. */
function sideOf(side: ChangeOfSet | undefined): {
  parts: readonly WeightedTensor[]
  streams: readonly Params[]
  journal?: GPUBufferBinding
} {
  if (side?.change.deltas === undefined) return { parts: [], streams: [] }
  const { span, starts } = side.change.deltas
  const parts = side.change.plan.deltas
  return {
    parts,
    streams: parts.map((part, i) => streamOf(side.set.entries, part, starts[i])),
    journal: side.set.journal.span(span),
  }
}

/** The narrowest kernel for a switch: the fast ones know one ternary stream on each side, or only dense ones. */
function kernelFor(reverted: readonly WeightedTensor[], applied: readonly WeightedTensor[]): MergeKernel {
  const parts = [...reverted, ...applied]
  if (parts.every(({ tensor }) => streamForm(tensor).kind === 'dense')) return 'dense'
  const ternary = parts.every(({ tensor }) => streamForm(tensor).kind === 'golomb')
  if (!ternary || reverted.length > 1 || applied.length > 1) return 'blend'
  return reverted.length === 0 ? 'apply' : applied.length === 0 ? 'revert' : 'fused'
}
