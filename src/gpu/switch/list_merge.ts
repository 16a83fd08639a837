import { BLOCK_WEIGHTS, tilingOf } from '../../format/index.ts'
import { type BoundDispatch, WORK_LIMIT } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { jobHeader } from '../job.ts'
import type { Bindings, Kernel } from '../kernel.ts'
import { shaderConstants } from '../shader_constants.ts'
import type { BufferPlacement } from '../weights/placements.ts'
import { type DeltaJob, KERNELS } from './delta_jobs.ts'
import { ListMemory } from './list_memory.ts'
import { ListWords } from './list_words.ts'
import type { MergeKernels } from './merge_kernels.ts'
import type { Recipe } from './recipe.ts'
import type { WeightSlots } from './weight_slots.ts'

const { MAX_JOBS, MAX_LISTED } = shaderConstants('job_list', ['MAX_JOBS', 'MAX_LISTED'])

/** Bind groups that are kept: those of some journals of a model. */
const MAX_BOUND = 1024

/** Jobs of one dispatch: the content of `JobList` of shaders/shared/job_list.wgsl. */
interface List {
  /** Among the lists of the recipe. */
  number: number
  jobs: number
  streams: number
  groups: number
  work: number
}

/** What every job of a tensor has, by its placement: a switch of 300 tensors does not work it out anew. */
interface Target {
  template: Uint32Array
  blocks: number
  /** Of its buffer of weights. */
  group: number
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
  readonly #memory: ListMemory
  readonly #targets = new Map<BufferPlacement, Target>()
  /** By kernel, group of weights and the numbers of the other buffers. */
  readonly #bound = new Map<string, GPUBindGroup>()
  readonly #numbers = new WeakMap<object, number>()
  #numbered = 0
  /** Once there is a kernel to read the layout from. */
  #words: ListWords | undefined

  constructor(gpu: Gpu, kernels: MergeKernels, slots: WeightSlots) {
    this.#gpu = gpu
    this.#kernels = kernels
    this.#slots = slots
    this.#memory = new ListMemory(gpu)
  }

  /**
   * Binds what the jobs take.
   * @param bindings - for arena and journals: buffers as a whole
   */
  prepare(jobs: readonly DeltaJob[], bindings: (job: DeltaJob) => Bindings): Recipe {
    const [first] = jobs
    if (first === undefined) return { dispatches: [], destroy() {} }
    const { paramsType } = this.#kernels.of(first.kernel, first.placement.dtype)
    this.#words ??= new ListWords(paramsType!)
    const words = this.#words
    const kinds = new Map<number, Kind>()
    const journals = new Map<GPUBuffer | undefined, number>()
    const journalNumber = (journal: GPUBufferBinding | undefined) => {
      const number = journals.get(journal?.buffer) ?? journals.size
      journals.set(journal?.buffer, number)
      return number
    }
    let lists = 0
    for (const job of jobs) {
      const { kernel, placement, displaced, journal } = job
      const target = this.#targetOf(job, words)
      // One number for all four: below 2^53 for a million groups and journals.
      const inGroup = KERNELS.indexOf(kernel) + KERNELS.length * target.group
      const key = (inGroup * 2 ** 14 + journalNumber(displaced)) * 2 ** 14 + journalNumber(journal)
      let kind = kinds.get(key)
      if (kind === undefined) {
        kind = { kernel: this.#kernels.of(kernel, placement.dtype), group: target.group, job, lists: [] }
        kinds.set(key, kind)
      }
      lists += addTo(kind, job, target, words, lists)
    }
    const { buffer: packed, size } = words.bytes(lists)
    const span = this.#memory.take(size)
    this.#gpu.device.queue.writeBuffer(span.buffer, span.offset, packed, 0, size)
    const dispatches: BoundDispatch[] = []
    for (const { kernel, group, job, lists } of kinds.values()) {
      const bindGroup = this.#bind(kernel, group, {
        ...bindings(job),
        [kernel.paramsName]: { buffer: span.buffer, size: words.size },
      })
      for (const { number, groups, work } of lists)
        dispatches.push({ kernel, bindGroup, listOffset: span.offset + number * words.step, groups, work })
    }
    return { dispatches, destroy: span.giveBack }
  }

  /** Gives back what is kept for the next recipe. */
  trim(): void {
    this.#bound.clear()
    this.#memory.trim()
  }

  #targetOf({ placement, shape }: DeltaJob, words: ListWords): Target {
    let target = this.#targets.get(placement)
    if (target === undefined) {
      const { group, slot } = this.#slots.of(placement.buffer)
      const template = words.templateOf({ ...jobHeader({ shape, placement }), slot })
      target = { template, blocks: tilingOf(shape).blocks, group }
      this.#targets.set(placement, target)
    }
    return target
  }

  /** A group of weights with arena, journals and lists as a kernel binds them: the next expert has the same as a rule. */
  #bind(kernel: Kernel, group: number, bindings: Bindings): GPUBindGroup {
    let key = `${this.#numberOf(kernel)} ${group}`
    for (const { buffer } of Object.values(bindings)) key += ` ${this.#numberOf(buffer)}`
    let bound = this.#bound.get(key)
    if (bound === undefined) {
      if (this.#bound.size === MAX_BOUND) this.#bound.clear()
      bound = kernel.bind({ ...bindings, ...this.#slots.bindings(group) })
      this.#bound.set(key, bound)
    }
    return bound
  }

  #numberOf(one: object): number {
    let number = this.#numbers.get(one)
    if (number === undefined) {
      number = ++this.#numbered
      this.#numbers.set(one, number)
    }
    return number
  }
}

/**
 * Adds a job to the last list with room for it, in parts where it is long.
 * @param lists - that there are of all kinds
 * @returns how many it has added
 */
function addTo(kind: Kind, job: DeltaJob, target: Target, words: ListWords, lists: number): number {
  const { kernel } = kind
  const { blocks, template } = target
  const { reverted, applied, invocations = kernel.lanes } = job
  const streams = reverted.length + applied.length
  const workOfBlock = BLOCK_WEIGHTS * job.work
  let added = 0
  for (let first = 0; first < blocks; ) {
    let list = kind.lists.at(-1)
    if (
      list === undefined ||
      list.work + workOfBlock > WORK_LIMIT ||
      list.jobs === MAX_JOBS ||
      list.streams + streams > MAX_LISTED
    ) {
      list = { number: lists + added++, jobs: 0, streams: 0, groups: 0, work: 0 }
      kind.lists.push(list)
      words.start(list.number)
    }
    const most = Math.max(1, Math.floor((WORK_LIMIT - list.work) / workOfBlock))
    const end = Math.min(blocks, first + most)
    words.setJob(list.number, list.jobs++, template, {
      first_block: first,
      end_block: end,
      reverted: reverted.length,
      applied: applied.length,
      first_stream: list.streams,
      first_group: list.groups,
    })
    for (const stream of reverted) words.setStream(list.number, list.streams++, stream)
    for (const stream of applied) words.setStream(list.number, list.streams++, stream)
    list.groups += Math.ceil(((end - first) * invocations) / kernel.groupSize)
    list.work += (end - first) * workOfBlock
    first = end
  }
  return added
}
