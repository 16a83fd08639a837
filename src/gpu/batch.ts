import { isTritswapError } from '../errors.ts'
import { checked, refusal } from './checked.ts'
import type { Gpu } from './device.ts'
import type { Bindings, Kernel, Params } from './kernel.ts'
import type { GpuTimer } from './timer.ts'

/** Uniform memory is written once a submission, in pages of this size. */
const PAGE_BYTES = 65_536
/** Alignment of uniform and storage offsets that every device accepts. */
export const ALIGNMENT = 256
const MAX_GROUPS = 65_535
/** Weights that one submission may walk: a tenth of a second on a device with 1 % of a GPU's speed. */
export const WORK_LIMIT = 2 ** 27
/** Invocations of a kernel that strides over all words of a buffer, at most. */
export const STRIDING_INVOCATIONS = 65_536

/** A kernel with all that it is bound to. */
export interface BoundDispatch {
  kernel: Kernel
  bindGroup: GPUBindGroup
  /** Of a kernel that takes a list: bytes from the start of the binding. */
  listOffset?: number
  /** Workgroups. */
  groups: number
  /** Units towards the limit of a submission. */
  work: number
}

interface BatchOptions {
  workLimit?: number
  timer?: GpuTimer
  /** Word i of it becomes zero when submission i has run, as far as it has words. */
  witness?: GPUBuffer
}

/**
 * Collects dispatches into few submissions. A submission has dispatches of `workLimit` units of work (weights, by
 * convention) or a single longer one, so that none runs long enough for the watchdog of a driver. Nothing reaches the
 * queue before `submit`; what the device refuses shows in the error scopes around `end`.
 */
export class Batch {
  readonly #gpu: Gpu
  readonly #workLimit: number
  readonly #timer: GpuTimer | undefined
  readonly #witness: GPUBuffer | undefined
  #recorded: GPUCommandBuffer[] = []
  #encoder: GPUCommandEncoder | undefined
  #pass: GPUComputePassEncoder | undefined
  /** Of the pass. */
  #pipeline: GPUComputePipeline | undefined
  #work = 0
  #dispatches = 0
  #pages: { buffer: GPUBuffer; bytes: ArrayBuffer; used: number }[] = []

  constructor(gpu: Gpu, { workLimit = WORK_LIMIT, timer, witness }: BatchOptions = {}) {
    this.#gpu = gpu
    this.#workLimit = workLimit
    this.#timer = timer
    this.#witness = witness
  }

  get dispatches(): number {
    return this.#dispatches
  }

  /** Submissions that `submit` makes, once `end` was called. */
  get submissions(): number {
    return this.#recorded.length
  }

  /**
   * Runs `kernel` with at least `invocations` invocations. A kernel computes the number of an invocation from
   * `workgroup_id` and `num_workgroups` and ignores the surplus.
   * @param work - units towards the limit of a submission
   */
  dispatch(
    kernel: Kernel,
    bindings: Bindings,
    params: Params,
    invocations: number,
    work = invocations,
  ): void {
    this.dispatchGroups(kernel, bindings, params, Math.ceil(invocations / kernel.groupSize), work)
  }

  /** Runs `kernel` with at least `groups` workgroups. */
  dispatchGroups(kernel: Kernel, bindings: Bindings, params: Params, groups: number, work: number): void {
    if (groups === 0) return
    const all =
      kernel.paramsBytes === 0
        ? bindings
        : { ...bindings, [kernel.paramsName]: this.#uniform(kernel, params) }
    this.run({ kernel, bindGroup: kernel.bind(all), groups, work })
  }

  /** Runs what was bound before. */
  run({ kernel, bindGroup, listOffset = 0, groups, work }: BoundDispatch): void {
    if (this.#work > 0 && this.#work + work > this.#workLimit) this.#close()
    this.#work += work
    this.#dispatches++
    const pass = this.#compute()
    if (this.#pipeline !== kernel.pipeline) pass.setPipeline(kernel.pipeline)
    this.#pipeline = kernel.pipeline
    if (kernel.takesList) pass.setBindGroup(0, bindGroup, [listOffset])
    else pass.setBindGroup(0, bindGroup)
    const rows = Math.ceil(groups / MAX_GROUPS)
    pass.dispatchWorkgroups(Math.ceil(groups / rows), rows)
  }

  clear(buffer: GPUBuffer): void {
    this.#endPass()
    this.#commands().clearBuffer(buffer)
  }

  /** Copies bytes; offsets and size are multiples of 4. */
  copy(from: GPUBuffer, fromOffset: number, to: GPUBuffer, toOffset: number, bytes: number): void {
    this.#endPass()
    this.#commands().copyBufferToBuffer(from, fromOffset, to, toOffset, bytes)
  }

  /** Ends the recording: all that can be refused has been then, except the submission itself. */
  end(): void {
    this.#endPass()
    if (this.#encoder !== undefined) this.#timer?.resolve(this.#encoder)
    this.#close()
    for (const { buffer, bytes, used } of this.#pages)
      this.#gpu.device.queue.writeBuffer(buffer, 0, bytes, 0, used)
  }

  /** Submits everything to the queue. */
  submit(): void {
    this.end()
    try {
      for (const commands of this.#recorded) this.#gpu.device.queue.submit([commands])
    } finally {
      this.destroy()
    }
  }

  /** Submits, waits for the GPU and returns its time in ms over all passes; undefined without a timer. */
  async finish(): Promise<number | undefined> {
    this.submit()
    if (this.#timer !== undefined) return this.#timer.read()
    await this.#gpu.device.queue.onSubmittedWorkDone()
    return undefined
  }

  /** Drops what was recorded and not submitted. */
  destroy(): void {
    for (const { buffer } of this.#pages) buffer.destroy()
    this.#pages = []
    this.#recorded = []
    this.#encoder = undefined
    this.#pass = undefined
  }

  /** Ends the commands of one submission. */
  #close(): void {
    this.#endPass()
    if (this.#encoder === undefined) return
    const word = this.#recorded.length * 4
    if (this.#witness !== undefined && word < this.#witness.size) {
      this.#encoder.clearBuffer(this.#witness, word, 4)
    }
    this.#recorded.push(this.#encoder.finish())
    this.#encoder = undefined
    this.#work = 0
  }

  #commands(): GPUCommandEncoder {
    this.#encoder ??= this.#gpu.device.createCommandEncoder()
    return this.#encoder
  }

  #compute(): GPUComputePassEncoder {
    if (this.#pass === undefined) {
      const timestampWrites = this.#timer?.nextPass()
      this.#pass = this.#commands().beginComputePass(timestampWrites && { timestampWrites })
    }
    return this.#pass
  }

  #endPass(): void {
    this.#pass?.end()
    this.#pass = undefined
    this.#pipeline = undefined
  }

  #uniform(kernel: Kernel, params: Params): GPUBufferBinding {
    const size = kernel.paramsBytes
    let page = this.#pages.at(-1)
    if (page === undefined || page.used + size > PAGE_BYTES) {
      page = {
        buffer: this.#gpu.device.createBuffer({
          size: PAGE_BYTES,
          usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
        }),
        bytes: new ArrayBuffer(PAGE_BYTES),
        used: 0,
      }
      this.#pages.push(page)
    }
    const offset = page.used
    kernel.writeParams(params, page.bytes, offset)
    page.used = Math.ceil((offset + size) / ALIGNMENT) * ALIGNMENT
    return { buffer: page.buffer, offset, size }
  }
}

/**
 * Bytes of a buffer on the CPU; `offset` and `size` are multiples of 4.
 * @throws {TritswapError} `memory`, `webgpu`, `device-lost`
 */
export async function readBuffer(
  gpu: Gpu,
  buffer: GPUBuffer,
  offset: number,
  size: number,
): Promise<ArrayBuffer> {
  const { device } = gpu
  const what = 'read from VRAM'
  const staging = await checked(gpu, what, () =>
    device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }),
  )
  try {
    await checked(gpu, what, () => {
      const encoder = device.createCommandEncoder()
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size)
      device.queue.submit([encoder.finish()])
    })
    await staging.mapAsync(GPUMapMode.READ)
    return staging.getMappedRange().slice(0)
  } catch (error) {
    gpu.lost.throwIfAborted()
    throw isTritswapError(error) ? error : refusal(what, error)
  } finally {
    staging.destroy()
  }
}
