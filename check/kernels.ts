/**
 * Every kernel on this GPU against its twin in TypeScript, and switches of whole models, in a worker: twins take long on a CPU.
 *
 * @module
 */

import { runShaped, type ShapedCase } from '../bench/kernels/shaped.ts'
import type { ShapedModel } from '../bench/kernels/shapes.ts'
import { requestGpu } from '../src/gpu/index.ts'
import { tuningOf } from '../src/gpu/tuning.ts'
import { serve } from '../src/rpc/index.ts'
import { KERNELS } from '../tests/gpu/conformance/kernels.ts'
import { checkKernel, conformance } from '../tests/gpu/conformance/run.ts'

export class KernelChecks {
  #gpu: ReturnType<typeof requestGpu> | undefined

  /** Names of all kernels. */
  names(): string[] {
    return Object.keys(KERNELS)
  }

  /** What this GPU is, and what it allows. @throws {TritswapError} `webgpu` */
  async facts() {
    this.#gpu ??= requestGpu()
    const { adapter, device } = await this.#gpu
    const { limits } = device
    return {
      adapter,
      features: [...device.features].sort(),
      limits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      },
    }
  }

  /** Runs one kernel on random cases. @returns what differs from the twin, in words */
  async check(name: string, cases: number): Promise<string[]> {
    this.#gpu ??= requestGpu()
    const { seed } = conformance({})
    return checkKernel(await this.#gpu, name, { cases, seed })
  }

  /**
   * Switches all tensors of a model, in f16 and with random experts of 5 %. @param divisor - of every size
   * @throws {TritswapError} `memory`, `webgpu`; an `Error` where the weights are not what they were before
   */
  async switches(model: ShapedModel, divisor: number, rounds: number): Promise<ShapedCase[]> {
    this.#gpu ??= requestGpu()
    const gpu = await this.#gpu
    const { slots } = tuningOf(gpu)
    const options = {
      models: [model],
      dtypes: ['float16'],
      density: 0.05,
      divisor,
      rounds,
      slots: [slots],
    } as const
    return (await runShaped(gpu, options)).cases
  }

  async dispose(): Promise<void> {
    const gpu = await this.#gpu
    gpu?.device.destroy()
  }
}

export type GpuFacts = Awaited<ReturnType<KernelChecks['facts']>>

serve(new KernelChecks())
