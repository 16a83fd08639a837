import { ALIGNMENT, type Batch } from '../../../src/gpu/batch.ts'
import type { Gpu } from '../../../src/gpu/index.ts'
import type { Bindings, Kernel, Params } from '../../../src/gpu/kernel.ts'
import { tuningOf } from '../../../src/gpu/tuning.ts'
import type { Job } from '../twins/job.ts'

/** The kernels of which there is a variant that takes a list of jobs. */
export const LISTED: ReadonlySet<string> = new Set([
  'apply',
  'blend',
  'dense',
  'fused',
  'pair',
  'revert',
  'steps',
])

/** Parts that a tensor is taken in: jobs of one list. */
const PARTS = 3

/**
 * Runs the variant of a kernel for lists on the job of a case: in parts, the last blocks first, with the weights in one of the
 * slots and something else in the others.
 */
export function dispatchList(
  gpu: Gpu,
  batch: Batch,
  kernel: Kernel,
  { weights, ...bindings }: Bindings,
  job: Job & Params,
  invocations: number,
  slot: number,
): void {
  const { slots } = tuningOf(gpu)
  const { streams, ...header } = job
  const blocks = job.end_block - job.first_block
  const perBlock = Math.ceil(invocations / blocks)
  let groups = 0
  const jobs: Params[] = []
  for (let part = PARTS; part > 0; part--) {
    const [first, end] = [part - 1, part].map((n) => job.first_block + Math.floor((blocks * n) / PARTS))
    if (first === end) continue
    jobs.push({
      ...header,
      first_block: first,
      end_block: end,
      slot: slot % slots,
      first_stream: 1,
      first_group: groups,
    })
    groups += Math.ceil(((end - first) * perBlock) / kernel.groupSize)
  }
  const others = gpu.device.createBuffer({ size: slots * ALIGNMENT, usage: GPUBufferUsage.STORAGE })
  const bound = Array.from({ length: slots }, (_, i) => {
    const other = { buffer: others, offset: i * ALIGNMENT, size: ALIGNMENT }
    return [`weights_${i}`, i === slot % slots ? weights : other]
  })
  const listed = [streams[0], ...streams].map((stream) => ({ ...stream, code: { ...stream.code } }))
  const list = { jobs, streams: listed, count: jobs.length }
  batch.dispatchGroups(kernel, { ...bindings, ...Object.fromEntries(bound) }, list, groups, 0)
}
