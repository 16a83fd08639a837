import { decodeFloats } from '../../../src/compress/dtypes.ts'
import { parseHead, sha256 } from '../../../src/format/index.ts'
import { Batch } from '../../../src/gpu/batch.ts'
import {
  ExpertStore,
  type Gpu,
  type ResidentExpert,
  requestGpu,
  Switcher,
  WeightStore,
} from '../../../src/gpu/index.ts'
import { Kernel } from '../../../src/gpu/kernel.ts'
import { createBuffers } from '../../../src/gpu/memory.ts'
import { GpuTimer } from '../../../src/gpu/timer.ts'
import { type Kind, stageCase } from '../names.ts'
import type { DeltaPart, PageConfig } from '../protocol.ts'
import type { Bench, Group } from './bench.ts'
import deltaF16 from './delta_f16.wgsl?raw'
import deltaInt8 from './delta_int8.wgsl?raw'
import denseDelta from './dense_delta.wgsl?raw'
import storedF16 from './stored_f16.wgsl?raw'
import storedF32 from './stored_f32.wgsl?raw'

const SOURCES = {
  dense_delta: denseDelta,
  stored_float32: storedF32,
  stored_float16: storedF16,
  delta_f16: deltaF16,
  delta_int8: deltaInt8,
}

/** One part of a dense delta in VRAM, with the weights that it is for. */
interface DensePart {
  delta: GPUBuffer
  weights: GPUBuffer
  quads: number
  kernel: Kernel
  /** 1, or the scale of its int8. */
  scale: number
}

interface MergingState {
  gpu: Gpu
  config: PageConfig
  /** Two copies of the base: experts change one, dense deltas the other. */
  ours: WeightStore
  theirs: WeightStore
  untouched: string
  experts: ExpertStore
  switcher: Switcher
  a: ResidentExpert
  b: ResidentExpert
  files: Record<'a' | 'deltaA' | 'deltaB' | 'int8' | 'lora', Uint8Array<ArrayBuffer>>
  dense: { a: DensePart[]; b: DensePart[] }
}

async function bytesOf(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url}: ${response.status}`)
  return new Uint8Array(await response.arrayBuffer())
}

async function openBase(gpu: Gpu, config: PageConfig): Promise<WeightStore> {
  const manifest = (await (await fetch(`${config.model}tritswap.json`)).json()) as {
    weights: { file: string }
  }
  const file = await bytesOf(`${config.model}${manifest.weights.file}`)
  const { table, headBytes } = await parseHead(file, 'the base')
  const inputs = table.bindings?.graphs[0].inputs
  if (inputs === undefined) throw new Error('the base has no bindings')
  const weights = await WeightStore.create({ gpu, inputs, table })
  await weights.write(0, file.subarray(headBytes))
  return weights
}

async function resident(experts: ExpertStore, file: Uint8Array<ArrayBuffer>): Promise<ResidentExpert> {
  const head = await parseHead(file, 'an expert')
  const upload = await experts.begin(head)
  await upload.write(0, file.subarray(head.headBytes))
  return upload.finish()
}

/** Puts a dense delta into VRAM, one buffer for each weight that it changes. */
async function uploadDense(
  { gpu, theirs, config }: Pick<MergingState, 'gpu' | 'theirs' | 'config'>,
  bytes: Uint8Array<ArrayBuffer>,
  width: 1 | 2,
  scales?: readonly number[],
): Promise<DensePart[]> {
  const parts = config.peers.deltaParts
  const feeds = new Map(theirs.feeds().map((feed) => [feed.name, feed]))
  const quadsOf = ({ elements }: DeltaPart) => Math.ceil(elements / 4)
  const buffers = await createBuffers(
    gpu,
    'a dense delta',
    parts.map((part) => quadsOf(part) * 4 * width),
  )
  const loaded = []
  for (const [i, part] of parts.entries()) {
    const { buffer, dtype } = feeds.get(part.input)!
    const section = bytes.subarray(part.offset * width, part.offset * width + quadsOf(part) * 4 * width)
    gpu.device.queue.writeBuffer(buffers[i], 0, section)
    const arriving = width === 2 ? 'delta_f16' : 'delta_int8'
    const kernel = await kernelOf(gpu, dtype, arriving)
    loaded.push({
      delta: buffers[i],
      weights: buffer,
      quads: quadsOf(part),
      kernel,
      scale: scales?.[i] ?? 1,
    })
  }
  await gpu.device.queue.onSubmittedWorkDone()
  return loaded
}

const kernels = new Map<string, Promise<Kernel>>()

function kernelOf(gpu: Gpu, dtype: string, arriving: string): Promise<Kernel> {
  const key = `${dtype} ${arriving}`
  let kernel = kernels.get(key)
  if (kernel === undefined) {
    kernel = Kernel.create(gpu, 'dense_delta', { stored: `stored_${dtype}`, arriving }, SOURCES)
    kernels.set(key, kernel)
  }
  return kernel
}

/** Adds dense deltas, each with a factor; ms until the GPU is done, and of its kernels where it tells. */
async function addDense(
  gpu: Gpu,
  ...deltas: { parts: DensePart[]; factor: number }[]
): Promise<{ totalMs: number; gpuMs?: number }> {
  const from = performance.now()
  const batch = new Batch(gpu, { timer: await GpuTimer.create(gpu) })
  for (const { parts, factor } of deltas) {
    for (const { kernel, weights, delta, quads, scale } of parts) {
      batch.dispatch(
        kernel,
        { weights: { buffer: weights }, delta: { buffer: delta } },
        { quads, factor: factor * scale },
        quads,
        quads * 4,
      )
    }
  }
  const gpuMs = await batch.finish()
  return { totalMs: performance.now() - from, gpuMs }
}

function destroyParts(parts: DensePart[]): void {
  for (const { delta } of parts) delta.destroy()
}

async function gunzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

async function verify(file: Uint8Array<ArrayBuffer>): Promise<void> {
  const head = await parseHead(file, 'an expert')
  await sha256(file.subarray(0, head.headBytes))
  for (let at = head.headBytes; at < file.length; at += head.chunkBytes)
    await sha256(file.subarray(at, at + head.chunkBytes))
}

/** Stages of the way from bytes in the host's memory to usable weights, except the network. */
const stages: Bench<MergingState>[] = [
  {
    cases: (['host', 'to the GPU', 'apply'] as const).map((stage) => stageCase('.trit', stage)),
    unit: 'ms',
    async bench({ gpu, experts, switcher, files }) {
      const samples = stopwatch('.trit')
      await verify(files.a)
      samples.lap('host')
      const expert = await resident(experts, files.a)
      await gpu.device.queue.onSubmittedWorkDone()
      samples.lap('to the GPU')
      await switcher.measure([{ expert, weight: 1 }])
      samples.lap('apply')
      await switcher.measure([])
      expert.release()
      return samples.found
    },
  },
  {
    cases: (['host', 'to the GPU', 'apply'] as const).map((stage) => stageCase('f16 delta', stage)),
    unit: 'ms',
    async bench(state) {
      const samples = stopwatch('f16 delta')
      samples.lap('host')
      const parts = await uploadDense(state, state.files.deltaA, 2)
      samples.lap('to the GPU')
      await addDense(state.gpu, { parts, factor: 1 })
      samples.lap('apply')
      await addDense(state.gpu, { parts, factor: -1 })
      destroyParts(parts)
      return samples.found
    },
  },
  {
    cases: (['host', 'to the GPU', 'apply'] as const).map((stage) => stageCase('int8 delta + gzip', stage)),
    unit: 'ms',
    async bench(state) {
      const samples = stopwatch('int8 delta + gzip')
      const plain = await gunzip(state.files.int8)
      samples.lap('host')
      const parts = await uploadDense(state, plain, 1, state.config.peers.int8Scales)
      samples.lap('to the GPU')
      await addDense(state.gpu, { parts, factor: 1 })
      samples.lap('apply')
      await addDense(state.gpu, { parts, factor: -1 })
      destroyParts(parts)
      return samples.found
    },
  },
  {
    cases: (['host', 'to the GPU', 'apply'] as const).map((stage) => stageCase('f16 LoRA', stage)),
    unit: 'ms',
    async bench({ gpu, files, config }) {
      const samples = stopwatch('f16 LoRA')
      const values = widen(files.lora, config.dtype)
      samples.lap('host')
      const buffers = await uploadFactors(gpu, values, config)
      await gpu.device.queue.onSubmittedWorkDone()
      samples.lap('to the GPU')
      // Fed by reference: nothing is left to do.
      samples.lap('apply')
      for (const buffer of buffers) buffer.destroy()
      return samples.found
    },
  },
]

function stopwatch(kind: Kind) {
  let last = performance.now()
  const found: Record<string, number> = {}
  return {
    found,
    lap(stage: 'host' | 'to the GPU' | 'apply') {
      const now = performance.now()
      found[stageCase(kind, stage)] = now - last
      last = now
    },
  }
}

/** f16 bits as the session wants them. */
export function widen(
  bytes: Uint8Array<ArrayBuffer>,
  dtype: PageConfig['dtype'],
): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  if (dtype === 'fp16') return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)
  const values = new Float32Array(bytes.length / 2)
  decodeFloats(bytes, 'F16', 'LoRA', values)
  return values
}

export async function uploadFactors(
  gpu: Gpu,
  values: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>,
  { peers }: PageConfig,
): Promise<GPUBuffer[]> {
  const width = values.BYTES_PER_ELEMENT
  const sizes = peers.loraFactors.map(({ dims: [rows, cols] }) => Math.ceil((rows * cols * width) / 16) * 16)
  const buffers = await createBuffers(gpu, 'LoRA factors', sizes)
  for (const [i, { dims, offset }] of peers.loraFactors.entries()) {
    gpu.device.queue.writeBuffer(buffers[i], 0, values, offset, dims[0] * dims[1])
  }
  return buffers
}

/** A ternary expert and what else could bring the same fine-tuning onto a base in VRAM. */
export const merging: Group<MergingState> = {
  name: 'merging',

  async open(config) {
    const gpu = await requestGpu()
    const [ours, theirs] = [await openBase(gpu, config), await openBase(gpu, config)]
    const experts = await ExpertStore.create({ gpu, budgetBytes: 2 ** 26 })
    const switcher = await Switcher.create({ gpu, weights: ours, experts })
    const { peers } = config
    const files = {
      a: await bytesOf(`${config.fast}${config.experts[0].url}`),
      deltaA: await bytesOf(`${config.fast}${peers.deltas[0]}`),
      deltaB: await bytesOf(`${config.fast}${peers.deltas[1]}`),
      int8: await bytesOf(`${config.fast}${peers.int8}`),
      lora: await bytesOf(`${config.fast}${peers.loraWeights[0]}`),
    }
    const a = await resident(experts, files.a)
    const b = await resident(experts, await bytesOf(`${config.fast}${config.experts[1].url}`))
    const common = { gpu, config, theirs }
    const dense = {
      a: await uploadDense(common, files.deltaA, 2),
      b: await uploadDense(common, files.deltaB, 2),
    }
    const untouched = await ours.checksum()
    return { gpu, config, ours, theirs, untouched, experts, switcher, a, b, files, dense }
  },

  benches: () => [
    {
      cases: [
        '.trit on the GPU: base → A',
        '.trit on the GPU: base → A: encoding',
        '.trit on the GPU: base → A: kernels',
        '.trit on the GPU: A → B',
        '.trit on the GPU: back',
      ],
      unit: 'ms',
      share: 3,
      async bench({ switcher, a, b }) {
        const on = await switcher.measure([{ expert: a, weight: 1 }])
        const over = await switcher.measure([{ expert: b, weight: 1 }])
        const off = await switcher.measure([])
        return {
          '.trit on the GPU: base → A': on.totalMs,
          '.trit on the GPU: base → A: encoding': on.encodeMs,
          ...(on.gpuMs === undefined ? {} : { '.trit on the GPU: base → A: kernels': on.gpuMs }),
          '.trit on the GPU: A → B': over.totalMs,
          '.trit on the GPU: back': off.totalMs,
        }
      },
    },
    {
      cases: [
        'dense f16 delta on the GPU: base → A',
        'dense f16 delta on the GPU: base → A: kernels',
        'dense f16 delta on the GPU: A → B',
        'dense f16 delta on the GPU: back',
      ],
      unit: 'ms',
      share: 3,
      async bench({ gpu, dense: { a, b } }) {
        const on = await addDense(gpu, { parts: a, factor: 1 })
        const over = await addDense(gpu, { parts: a, factor: -1 }, { parts: b, factor: 1 })
        const off = await addDense(gpu, { parts: b, factor: -1 })
        return {
          'dense f16 delta on the GPU: base → A': on.totalMs,
          ...(on.gpuMs === undefined ? {} : { 'dense f16 delta on the GPU: base → A: kernels': on.gpuMs }),
          'dense f16 delta on the GPU: A → B': over.totalMs,
          'dense f16 delta on the GPU: back': off.totalMs,
        }
      },
    },
    ...stages,
  ],

  facts: () => [
    {
      cases: ['VRAM: dense f16 delta', 'VRAM: .trit expert'],
      unit: 'bytes',
      async look({ ours, theirs, untouched, dense, a, switcher }, notes) {
        await switcher.revert()
        notes['.trit on the GPU: going back is exact'] = (await ours.checksum()) === untouched
        notes['dense f16 delta: going back is exact'] = (await theirs.checksum()) === untouched
        return {
          'VRAM: dense f16 delta': dense.a.reduce((sum, { delta }) => sum + delta.size, 0),
          'VRAM: .trit expert': a.bytes,
        }
      },
    },
  ],

  async close({ gpu, ours, theirs, experts, switcher, dense }) {
    for (const parts of Object.values(dense)) destroyParts(parts)
    switcher.destroy()
    experts.destroy()
    ours.destroy()
    theirs.destroy()
    gpu.device.destroy()
  },
}
