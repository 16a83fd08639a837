import { BLOCK_WEIGHTS, tilingOf } from '../../format/index.ts'
import { ALIGNMENT, type BoundDispatch, WORK_LIMIT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { jobHeader } from '../job.ts'
import type { Bindings, Kernel, Params } from '../kernel.ts'
import { shaderConstants } from '../shader_constants.ts'
import type { BufferPlacement } from '../weights/placements.ts'
import { type DeltaJob, KERNELS, type MergeKernels } from './delta_jobs.ts'
import type { Recipe } from './recipe.ts'
import type { WeightSlots } from './weight_slots.ts'

const { MAX_JOBS, MAX_LISTED } = shaderConstants('job_list', ['MAX_JOBS', 'MAX_LISTED'])

/** Buffers that are kept for the next recipe. */
const MAX_FREE = 2

/** Jobs of one dispatch: the content of `JobList` of shaders/shared/job_list.wgsl. */
interface List {
  jobs: Params[]
  streams: Params[]
  groups: number
  work: number
}

/** What every job of a tensor has, by its placement: a switch of 300 tensors does not work it out anew. */
interface Target {
  header: ReturnType<typeof jobHeader>
  blocks: number
  group: number
  slot: number
}

/** Jobs that can share a dispatch: one kernel, buffers of one group of weights, the same journals. */
interface Kind {
  kernel: Kernel
  group: number
  /** Of the first job; all have the same. */
  job: DeltaJob
  lists: List[]
}

/** Merges with many tensors a dispatch. */
export class ListMerge {
  readonly #gpu: Gpu
  readonly #kernels: MergeKernels
  readonly #slots: WeightSlots
  readonly #targets = new Map<BufferPlacement, Target>()
  /** Buffers of lists that no recipe has any more. */
  #free: GPUBuffer[] = []
  /** The content of one on its way there; what a list leaves unused is what the one before it had. */
  #bytes = new ArrayBuffer(0)

  constructor(gpu: Gpu, kernels: MergeKernels, slots: WeightSlots) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#slots = slots
  }

  /** Binds what the jobs take. @param bindings - for arena and journals */
  prepare(jobs: readonly DeltaJob[], bindings: (job: DeltaJob) => Bindings): Recipe {
    const kinds = new Map<number, Kind>()
    const journals = new Map<GPUBuffer | undefined, number>()
    const numberOf = (journal: GPUBufferBinding | undefined) => {
      const number = journals.get(journal?.buffer) ?? journals.size
      journals.set(journal?.buffer, number)
      return number
    }
    for (const job of jobs) {
      const { kernel, placement, displaced, journal } = job
      const target = this.#targetOf(job)
      // One number for all four: below 2^53 for a million groups and journals.
      const inGroup = KERNELS.indexOf(kernel) + KERNELS.length * target.group
      const key = (inGroup * 2 ** 14 + numberOf(displaced)) * 2 ** 14 + numberOf(journal)
      let kind = kinds.get(key)
      if (kind === undefined) {
        kind = { kernel: this.#kernels[kernel][placement.dtype], group: target.group, job, lists: [] }
        kinds.set(key, kind)
      }
      addTo(kind, job, target)
    }
    return this.#bind([...kinds.values()], bindings)
  }

  /** Gives back what is kept for the next recipe. */
  trim(): void {
    for (const buffer of this.#free) buffer.destroy()
    this.#free = []
  }

  #targetOf({ placement, shape }: DeltaJob): Target {
    let target = this.#targets.get(placement)
    if (target === undefined) {
      const { group, slot } = this.#slots.of(placement.buffer)
      target = { header: jobHeader({ shape, placement }), blocks: tilingOf(shape).blocks, group, slot }
      this.#targets.set(placement, target)
    }
    return target
  }

  #bind(kinds: readonly Kind[], bindings: (job: DeltaJob) => Bindings): Recipe {
    const count = kinds.reduce((sum, { lists }) => sum + lists.length, 0)
    if (count === 0) return { dispatches: [], destroy() {} }
    const size = kinds[0].kernel.paramsBytes
    const step = Math.ceil(size / ALIGNMENT) * ALIGNMENT
    const used = count * step
    const buffer = this.#bufferOf(used)
    if (this.#bytes.byteLength < used) this.#bytes = new ArrayBuffer(used)
    const bytes = this.#bytes
    const dispatches: BoundDispatch[] = []
    for (const { kernel, group, job, lists } of kinds) {
      const shared = bindings(job)
      for (const { jobs, streams, groups, work } of lists) {
        const offset = dispatches.length * step
        kernel.writeParams({ jobs, streams, count: jobs.length }, bytes, offset)
        const own = kernel.bind({ ...shared, [kernel.paramsName]: { buffer, offset, size } })
        dispatches.push({ kernel, bindGroups: [own, this.#slots.bound(group, kernel)], groups, work })
      }
    }
    this.#gpu.device.queue.writeBuffer(buffer, 0, bytes, 0, used)
    return { dispatches, destroy: () => this.#giveBack(buffer) }
  }

  /** A buffer of at least these bytes; to make one takes as long as to fill it. */
  #bufferOf(bytes: number): GPUBuffer {
    const found = this.#free.findIndex(({ size }) => size >= bytes)
    if (found >= 0) return this.#free.splice(found, 1)[0]
    return this.#gpu.device.createBuffer({
      label: 'jobs',
      size: bytes,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    })
  }

  #giveBack(buffer: GPUBuffer): void {
    if (this.#free.length < MAX_FREE) this.#free.push(buffer)
    else buffer.destroy()
  }
}

/** Adds a job to the last list with room for it, in parts where it is long. */
function addTo({ kernel, lists }: Kind, job: DeltaJob, { header, blocks, slot }: Target): void {
  const { reverted, applied, invocations = kernel.lanes } = job
  const streams = reverted.length + applied.length
  const workOfBlock = BLOCK_WEIGHTS * job.work
  for (let first = 0; first < blocks; ) {
    let list = lists.at(-1)
    if (
      list === undefined ||
      list.work + workOfBlock > WORK_LIMIT ||
      list.jobs.length === MAX_JOBS ||
      list.streams.length + streams > MAX_LISTED
    ) {
      list = { jobs: [], streams: [], groups: 0, work: 0 }
      lists.push(list)
    }
    const most = Math.max(1, Math.floor((WORK_LIMIT - list.work) / workOfBlock))
    const end = Math.min(blocks, first + most)
    list.jobs.push({
      rows: header.rows,
      cols: header.cols,
      tile_rows: header.tile_rows,
      tile_cols: header.tile_cols,
      across: header.across,
      first_block: first,
      end_block: end,
      offset: header.offset,
      row_stride: header.row_stride,
      col_stride: header.col_stride,
      reverted: reverted.length,
      applied: applied.length,
      slot,
      first_stream: list.streams.length,
      first_group: list.groups,
    })
    for (const stream of reverted) list.streams.push(stream)
    for (const stream of applied) list.streams.push(stream)
    list.groups += Math.ceil(((end - first) * invocations) / kernel.groupSize)
    list.work += (end - first) * workOfBlock
    first = end
  }
}
