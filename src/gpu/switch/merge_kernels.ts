import type { Gpu } from '../device.ts'
import { type Kernel, targetKernels } from '../kernel.ts'
import type { TargetDtype } from '../target.ts'
import type { MergeKernel } from './delta_jobs.ts'

/** The kernels that merge deltas. Most bases never meet sets that need all of them, so each is compiled when a set first does. */
export class MergeKernels {
  readonly #gpu: Gpu
  readonly #dtypes: ReadonlySet<TargetDtype>
  readonly #list: boolean
  readonly #compiled = new Map<MergeKernel, Record<TargetDtype, Kernel>>()

  /** @param list - whether they take lists of jobs */
  constructor(gpu: Gpu, dtypes: ReadonlySet<TargetDtype>, list: boolean) {
    this.#gpu = gpu
    this.#dtypes = dtypes
    this.#list = list
  }

  has(name: MergeKernel): boolean {
    return this.#compiled.has(name)
  }

  /** A kernel that {@link prepare} was called for. */
  of(name: MergeKernel, dtype: TargetDtype): Kernel {
    return this.#compiled.get(name)![dtype]
  }

  /**
   * Compiles those that are not yet.
   * @returns undefined where none is missing
   * @throws {TritswapError} `webgpu`, `device-lost`
   */
  prepare(names: ReadonlySet<MergeKernel>): Promise<void> | undefined {
    const missing = [...names].filter((name) => !this.has(name))
    return missing.length === 0 ? undefined : this.#compile(missing)
  }

  async #compile(names: readonly MergeKernel[]): Promise<void> {
    const kernels = await targetKernels(this.#gpu, names, this.#dtypes, this.#list)
    for (const name of names) this.#compiled.set(name, kernels[name])
  }
}
