import type { Batch } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { dispatchJob } from '../job.ts'
import type { Bindings } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import type { TargetDtype } from '../target.ts'
import { type DeltaJob, type DeltaStep, jobOf, kernelOfPass, kernelsOf } from './delta_jobs.ts'
import { ListMerge } from './list_merge.ts'
import { MergeKernels } from './merge_kernels.ts'
import type { TargetPlan } from './plan.ts'
import type { Recipe } from './recipe.ts'
import type { WeightSlots } from './weight_slots.ts'

/** Takes tensors from the deltas of one set to those of another, each in a single pass. */
export class DeltaMerge {
  readonly #kernels: MergeKernels
  readonly #lists: ListMerge | undefined
  /** Bound for a journal that a kernel has but the switch does not use: one to read, one to write. */
  readonly #unused: readonly GPUBuffer[]

  static async create(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>, slots: WeightSlots): Promise<DeltaMerge> {
    const kernels = new MergeKernels(gpu, dtypes, slots.takesMany)
    return new DeltaMerge(gpu, kernels, slots, await createBuffers(gpu, 'placeholders', [16, 16]))
  }

  private constructor(gpu: Gpu, kernels: MergeKernels, slots: WeightSlots, unused: readonly GPUBuffer[]) {
    this.#kernels = kernels
    this.#unused = unused
    if (slots.takesMany) this.#lists = new ListMerge(gpu, kernels, slots)
  }

  /**
   * Compiles what a set of these plans takes, whatever set comes before or after.
   * @returns undefined where nothing is missing
   * @throws {TritswapError} `webgpu`, `device-lost`
   */
  prepare(plans: Iterable<TargetPlan>): Promise<void> | undefined {
    return this.#kernels.prepare(new Set(Array.from(plans, ({ deltas }) => kernelsOf(deltas)).flat()))
  }

  /** Whether a step is made in one pass; else both of its sides have kernels of their own. */
  isOnePass(step: DeltaStep): boolean {
    const kernel = kernelOfPass(step)
    return kernel !== undefined && this.#kernels.has(kernel)
  }

  /**
   * Records the steps; those without deltas on either side do nothing. {@link prepare} was called for both sides.
   * @returns what records them again, where it can be kept
   */
  record(batch: Batch, arena: () => GPUBuffer, steps: readonly DeltaStep[]): Recipe | undefined {
    const jobs = steps.flatMap((step) => jobOf(step) ?? [])
    const bindings = (job: DeltaJob): Bindings => ({
      arena: { buffer: arena() },
      displaced: job.displaced ?? { buffer: this.#unused[0] },
      journal: job.journal ?? { buffer: this.#unused[1] },
    })
    if (this.#lists !== undefined) {
      const recipe = this.#lists.prepare(jobs, bindings)
      for (const dispatch of recipe.dispatches) batch.run(dispatch)
      return recipe
    }
    for (const job of jobs) {
      const { kernel, placement, invocations, work } = job
      dispatchJob(
        batch,
        this.#kernels.of(kernel, placement.dtype),
        { weights: { buffer: placement.buffer }, ...bindings(job) },
        job,
        { invocations, work },
      )
    }
    return undefined
  }

  /** Gives back what is kept for the next switch. */
  trim(): void {
    this.#lists?.trim()
  }

  destroy(): void {
    this.trim()
    for (const buffer of this.#unused) buffer.destroy()
  }
}
