import type { Gpu } from './device.ts'
import type { Bindings, Kernel, Params } from './kernel.ts'

/** Uniform memory is written once a submission, in pages of this size. */
const PAGE_BYTES = 65_536
/** Alignment of uniform and storage offsets that every device accepts. */
export const ALIGNMENT = 256
const MAX_GROUPS = 65_535
/** Weights that one submission may walk: a tenth of a second on a device with 1 % of a GPU's speed. */
export const WORK_LIMIT = 2 ** 27
/** Invocations of a kernel that strides over all words of a buffer, at most. */
export const STRIDING_INVOCATIONS = 65_536
/** How many passes of a batch are timed, the first ones. */
const TIMED_PASSES = 64

/**
 * Collects dispatches into few submissions. A submission has dispatches of `workLimit` units of work (weights, by
 * convention) or a single longer one, so that none runs long enough for the watchdog of a driver.
 */
export class Batch {
  readonly #gpu: Gpu
  readonly #workLimit: number
  readonly #queries: GPUQuerySet | undefined
  #timedPasses = 0
  #encoder: GPUCommandEncoder | undefined
  #pass: GPUComputePassEncoder | undefined
  #work = 0
  #pages: { buffer: GPUBuffer; bytes: ArrayBuffer; used: number }[] = []

  constructor(gpu: Gpu, { workLimit = WORK_LIMIT, timed = false } = {}) {
    this.#gpu = gpu
    this.#workLimit = workLimit
    if (timed && gpu.features.timestamps) {
      this.#queries = gpu.device.createQuerySet({ type: 'timestamp', count: 2 * TIMED_PASSES })
    }
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
    if (this.#work > 0 && this.#work + work > this.#workLimit) this.submit()
    this.#work += work
    const all = kernel.paramsBytes === 0 ? bindings : { ...bindings, params: this.#uniform(kernel, params) }
    const group = kernel.bind(all)
    const pass = this.#compute()
    pass.setPipeline(kernel.pipeline)
    pass.setBindGroup(0, group)
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

  /** Submits everything so far to the queue. */
  submit(): void {
    this.#endPass()
    if (this.#encoder === undefined) return
    for (const { buffer, bytes, used } of this.#pages)
      this.#gpu.device.queue.writeBuffer(buffer, 0, bytes, 0, used)
    this.#gpu.device.queue.submit([this.#encoder.finish()])
    for (const { buffer } of this.#pages) buffer.destroy()
    this.#pages = []
    this.#encoder = undefined
    this.#work = 0
  }

  /** Submits, waits for the GPU and returns its time in ms over all passes; undefined without timestamps. */
  async finish(): Promise<number | undefined> {
    const { device } = this.#gpu
    if (this.#queries === undefined || this.#timedPasses === 0) {
      this.submit()
      await device.queue.onSubmittedWorkDone()
      this.#queries?.destroy()
      return undefined
    }
    const passes = this.#timedPasses
    const resolved = device.createBuffer({
      size: passes * 16,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    })
    this.#endPass()
    this.#commands().resolveQuerySet(this.#queries, 0, passes * 2, resolved, 0)
    this.submit()
    const ticks = new BigUint64Array(await readBuffer(this.#gpu, resolved, 0, passes * 16))
    resolved.destroy()
    this.#queries.destroy()
    let nanoseconds = 0
    for (let pass = 0; pass < passes; pass++) nanoseconds += Number(ticks[2 * pass + 1] - ticks[2 * pass])
    return nanoseconds / 1e6
  }

  #commands(): GPUCommandEncoder {
    this.#encoder ??= this.#gpu.device.createCommandEncoder()
    return this.#encoder
  }

  #compute(): GPUComputePassEncoder {
    if (this.#pass === undefined) {
      const querySet = this.#timedPasses < TIMED_PASSES ? this.#queries : undefined
      const index = 2 * this.#timedPasses
      this.#pass = this.#commands().beginComputePass(
        querySet && {
          timestampWrites: { querySet, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 },
        },
      )
      if (querySet !== undefined) this.#timedPasses++
    }
    return this.#pass
  }

  #endPass(): void {
    this.#pass?.end()
    this.#pass = undefined
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

/** Bytes of a buffer on the CPU; `offset` and `size` are multiples of 4. */
export async function readBuffer(
  { device }: Gpu,
  buffer: GPUBuffer,
  offset: number,
  size: number,
): Promise<ArrayBuffer> {
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  try {
    const encoder = device.createCommandEncoder()
    encoder.copyBufferToBuffer(buffer, offset, staging, 0, size)
    device.queue.submit([encoder.finish()])
    await staging.mapAsync(GPUMapMode.READ)
    return staging.getMappedRange().slice(0)
  } finally {
    staging.destroy()
  }
}
