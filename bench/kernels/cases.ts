/// <reference types="vite/client" />
import type { HoistedInput } from '../../src/format/bindings.ts'
import {
  encodeTernary,
  memorySpool,
  parseHead,
  type TernaryEntries,
  TritWriter,
} from '../../src/format/index.ts'
import { Batch } from '../../src/gpu/batch.ts'
import {
  type AdapterFacts,
  ExpertStore,
  type Gpu,
  type SetEntry,
  Switcher,
  WeightStore,
} from '../../src/gpu/index.ts'
import { Kernel } from '../../src/gpu/kernel.ts'
import { createBuffers } from '../../src/gpu/memory.ts'
import { SOURCES } from '../../src/gpu/shaders.ts'
import type { TargetDtype } from '../../src/gpu/target.ts'
import { GpuTimer } from '../../src/gpu/timer.ts'
import arithmeticF16 from './arithmetic_f16.wgsl?raw'
import arithmeticF32 from './arithmetic_f32.wgsl?raw'
import denseAdd from './dense_add.wgsl?raw'
import denseAddScalar from './dense_add_scalar.wgsl?raw'
import { randomEntries } from './random_entries.ts'

export interface BenchOptions {
  /** Weights of the one matrix; rounded down to a multiple of 4096 columns. */
  weights: number
  dtypes: readonly TargetDtype[]
  densities: readonly number[]
  layouts: readonly ('rows' | 'transposed')[]
  /** How often each case is timed, in turns with the others; the best time counts. */
  rounds: number
}

export interface BenchCase {
  kernel: string
  dtype: TargetDtype
  layout: 'rows' | 'transposed'
  weights: number
  density: number
  ms: number
  /** Bytes of the matrix, read and written once, over the time, however many of them the case touches. */
  gbps: number
  /** Over a dense `W += D` that handles 16 bytes an invocation, the stronger of the two. */
  vsDenseAdd: number
  /** Over one that handles 4 bytes an invocation. */
  vsScalarAdd: number
  vsCopy: number
}

export interface BenchReport {
  adapter: Pick<AdapterFacts, 'vendor' | 'architecture' | 'description' | 'software'>
  /** GPU timestamps, or wall clock around the queue where the device has none. */
  clock: 'timestamps' | 'wall'
  cases: BenchCase[]
}

const COLS = 4096

/**
 * Times every switch of one matrix against a dense `W += D` over it and a copy of it. On a software adapter the times
 * are those of code, not of memory: the report says which it was.
 */
export async function runBench(
  gpu: Gpu,
  options: BenchOptions,
  onCase: (done: BenchCase) => void = () => {},
): Promise<BenchReport> {
  const cases: BenchCase[] = []
  for (const dtype of options.dtypes) {
    for (const layout of options.layouts) {
      for (const density of options.densities) {
        for (const done of await runConfiguration(gpu, options, dtype, layout, density)) {
          cases.push(done)
          onCase(done)
        }
      }
    }
  }
  const { vendor, architecture, description, software } = gpu.adapter
  return {
    adapter: { vendor, architecture, description, software },
    clock: gpu.features.timestamps ? 'timestamps' : 'wall',
    cases,
  }
}

async function runConfiguration(
  gpu: Gpu,
  { weights: wanted, rounds }: BenchOptions,
  dtype: TargetDtype,
  layout: 'rows' | 'transposed',
  density: number,
): Promise<BenchCase[]> {
  const rows = Math.max(1, Math.floor(wanted / COLS))
  const weights = rows * COLS
  const shape = [rows, COLS]
  const bytes = weights * (dtype === 'float16' ? 2 : 4)
  const base = await container('base', shape, undefined)
  const part = {
    tensor: 'w',
    offset: 0,
    rowStride: layout === 'rows' ? COLS : 1,
    colStride: layout === 'rows' ? 1 : rows,
  }
  const inputs: HoistedInput[] = [{ name: 'w', dtype, dims: [rows, COLS], parts: [part] }]
  const store = await WeightStore.create({ gpu, inputs, table: base.head.table })
  const experts = await ExpertStore.create({ gpu, budgetBytes: 2 ** 30 })
  const switcher = await Switcher.create({ gpu, weights: store, experts })
  const [feed] = store.feeds()
  const sources = {
    ...SOURCES,
    dense_add: denseAdd,
    dense_add_scalar: denseAddScalar,
    float16: arithmeticF16,
    float32: arithmeticF32,
  }
  const [add, addScalar] = await Promise.all(
    ['dense_add', 'dense_add_scalar'].map((name) => Kernel.create(gpu, name, { arithmetic: dtype }, sources)),
  )
  const [delta, copy] = await createBuffers(gpu, 'a dense delta', [bytes, bytes])

  const resident = []
  for (let seed = 0; seed < 4; seed++) {
    const { head, payload } = await container('expert', shape, randomEntries(weights, density, seed))
    const upload = await experts.begin(head)
    upload.write(0, payload)
    resident.push(await upload.finish())
  }
  const [a, b, c, d] = resident.map((expert): SetEntry => ({ expert, weight: 1 }))

  const times = new Map<string, number>()
  const note = (name: string, ms: number) =>
    times.set(name, Math.min(ms, times.get(name) ?? Number.POSITIVE_INFINITY))
  const batch = async (name: string, record: (batch: Batch) => void) => {
    const work = new Batch(gpu, { timer: await GpuTimer.create(gpu) })
    record(work)
    const from = performance.now()
    const gpuMs = await work.finish()
    note(name, gpuMs ?? performance.now() - from)
  }
  const change = async (name: string, set: SetEntry[]) => {
    const { gpuMs, totalMs } = await switcher.measure(set)
    note(name, gpuMs ?? totalMs)
  }
  for (let round = 0; round < rounds; round++) {
    await batch('dense add', (work) =>
      work.dispatch(
        add,
        { weights: { buffer: feed.buffer }, delta: { buffer: delta } },
        { quads: bytes / 16 },
        bytes / 16,
        weights,
      ),
    )
    await batch('dense add, scalar', (work) =>
      work.dispatch(
        addScalar,
        { weights: { buffer: feed.buffer }, delta: { buffer: delta } },
        { words: bytes / 4 },
        bytes / 4,
        weights,
      ),
    )
    const from = performance.now()
    const encoder = gpu.device.createCommandEncoder()
    encoder.copyBufferToBuffer(feed.buffer, 0, copy, 0, bytes)
    gpu.device.queue.submit([encoder.finish()])
    await gpu.device.queue.onSubmittedWorkDone()
    note('copy', performance.now() - from)
    await change('apply', [a])
    await change('fused', [b])
    await change('revert', [])
    await change('blend of 2, apply', [a, b])
    await change('blend of 2, fused', [c, d])
    await change('blend of 2, revert', [])
  }
  times.set('revert then apply', times.get('revert')! + times.get('apply')!)
  for (const expert of resident) expert.release()
  switcher.destroy()
  experts.destroy()
  store.destroy()
  delta.destroy()
  copy.destroy()
  return Array.from(times, ([kernel, ms]) => ({
    kernel,
    dtype,
    layout,
    weights,
    density,
    ms,
    gbps: (2 * bytes) / ms / 1e6,
    vsDenseAdd: ms / times.get('dense add')!,
    vsScalarAdd: ms / times.get('dense add, scalar')!,
    vsCopy: ms / times.get('copy')!,
  }))
}

/** A container of one tensor `w`; a base's section is all zeros. */
async function container(
  kind: 'base' | 'expert',
  shape: readonly number[],
  entries: TernaryEntries | undefined,
) {
  const spool = memorySpool()
  const writer = new TritWriter(spool, { chunkLog2: 20 })
  const common = { name: 'w', shape, role: 'delta', target: 'w' } as const
  if (entries === undefined) {
    await writer.add({ ...common, codec: 'dense', dtype: 'f16' }, new Uint16Array(shape[0] * shape[1]))
  } else {
    const { kept, m, lengthMin, lengthBits, words } = encodeTernary(shape, entries)
    await writer.add({ ...common, codec: 'ternary', kept, scale: 2 ** -8, m, lengthMin, lengthBits }, words)
  }
  const file = spool.join(
    await writer.finish({ kind, method: 'full', base: {}, compression: {}, sources: [] }),
  )
  const head = await parseHead(file, 'bench')
  return { head, payload: file.subarray(head.headBytes) }
}
