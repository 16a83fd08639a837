import { Batch } from '../../../src/gpu/batch.ts'
import type { Gpu } from '../../../src/gpu/index.ts'
import { type Kernel, kernelOf, type Params } from '../../../src/gpu/kernel.ts'
import { SOURCES } from '../../../src/gpu/shaders.ts'
import { Random } from '../random.ts'
import type { Job } from '../twins/job.ts'
import { KERNELS } from './kernels.ts'
import { dispatchList, LISTED } from './lists.ts'
import { type Words, World } from './world.ts'

/** What a kernel is run on, and what it has to do with it. */
export interface KernelCase {
  params: Params
  /** Content of the kernel's buffers, by the names of the WGSL variables. A list stands for an array of structs. */
  buffers: Readonly<Record<string, Words | readonly Params[]>>
  /** Size of the dispatch; blocks are those that the kernel walks. */
  run: { invocations: number } | { blocks: number } | { groups: number }
  /** Changes the buffers as the kernel has to. */
  twin(buffers: Readonly<Record<string, Words>>): void
  /** The buffers to compare, and how: word by word where nothing is said. */
  outputs: Readonly<Record<string, Compare | undefined>>
}

/** Says what is wrong with a buffer, if anything. */
export type Compare = (found: Words, wanted: Words) => string | undefined

/** How to make a random case for a kernel. */
export type MakeCase = (world: World, random: Random) => KernelCase

export interface Conformance {
  cases: number
  seed: number
}

/**
 * How many cases, and which: 64, or 256 with `LONG=1`. The seed follows from the shaders unless `SEED` is set, so that
 * every change of one has other cases and a commit has always the same.
 */
export function conformance({ LONG, SEED }: Readonly<Record<string, string | undefined>>): Conformance {
  return { cases: Number(LONG) > 0 ? 256 : 64, seed: SEED ? Number(SEED) : shaderSeed() }
}

function shaderSeed(): number {
  const text = Object.keys(SOURCES)
    .sort()
    .map((name) => name + SOURCES[name])
    .join('\n')
  return hash(text) >>> 1
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value >>> 0
}

/**
 * Runs a kernel and its twin on random cases. Needs nothing but a GPU: it also runs where no test runner does.
 * @returns what differed, in words
 */
export async function checkKernel(gpu: Gpu, name: string, { cases, seed }: Conformance): Promise<string[]> {
  const made = Array.from({ length: cases }, (_, i) => {
    const world = World.of(seed, i)
    return { world, ...KERNELS[name](world, new Random(hash(`${seed} ${name} ${i}`))) }
  })
  const batch = new Batch(gpu)
  const uploaded: Record<string, GPUBuffer>[] = []
  for (const [i, one] of made.entries()) {
    // The variants for software adapters and for GPUs, in turns.
    const adapter = { ...gpu.adapter, software: i % 2 === 0 }
    const variant: Gpu = { ...gpu, adapter, tuning: { lanes: `lanes_${one.world.lanes}` } }
    const isList = i % 2 === 1 && LISTED.has(name)
    const kernel = await kernelOf(variant, name, one.world.dtype, isList)
    const buffers = upload(gpu, kernel, one.buffers)
    uploaded.push(buffers)
    const bindings = Object.fromEntries(Object.entries(buffers).map(([key, buffer]) => [key, { buffer }]))
    if ('groups' in one.run) {
      batch.dispatchGroups(kernel, bindings, one.params, one.run.groups, 0)
      continue
    }
    const invocations = 'blocks' in one.run ? one.run.blocks * kernel.lanes : one.run.invocations
    if (isList)
      dispatchList(variant, batch, kernel, bindings, one.params as Job & Params, invocations, i >> 1)
    else batch.dispatch(kernel, bindings, one.params, invocations, 0)
  }
  batch.submit()
  const reading = readAll(
    gpu,
    made.flatMap(({ outputs }, i) => Object.keys(outputs).map((key) => uploaded[i][key])),
  )
  const failures: string[] = []
  // The GPU works meanwhile.
  for (const one of made) one.twin(one.buffers as Record<string, Words>)
  const found = await reading
  for (const [i, { world, buffers, outputs }] of made.entries()) {
    for (const [key, compare = compareWords] of Object.entries(outputs)) {
      const wrong = compare(found.shift()!, buffers[key] as Words)
      if (wrong !== undefined)
        failures.push(`SEED=${seed}, case ${i} (${world.description}), ${key}: ${wrong}`)
    }
    for (const buffer of Object.values(uploaded[i])) buffer.destroy()
  }
  return failures
}

function upload({ device }: Gpu, kernel: Kernel, buffers: KernelCase['buffers']): Record<string, GPUBuffer> {
  const entries = Object.entries(buffers).map(([name, content]) => {
    const words = content instanceof Uint32Array ? content : new Uint32Array(kernel.packArray(name, content))
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC
    const buffer = device.createBuffer({ size: words.byteLength, usage, mappedAtCreation: true })
    new Uint32Array(buffer.getMappedRange()).set(words)
    buffer.unmap()
    return [name, buffer] as const
  })
  return Object.fromEntries(entries)
}

/** The content of buffers, by way of a single one: waiting for each would take most of the time. */
async function readAll({ device }: Gpu, buffers: readonly GPUBuffer[]): Promise<Words[]> {
  const size = buffers.reduce((sum, buffer) => sum + buffer.size, 0)
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  const encoder = device.createCommandEncoder()
  const starts: number[] = []
  let end = 0
  for (const buffer of buffers) {
    encoder.copyBufferToBuffer(buffer, 0, staging, end, buffer.size)
    starts.push(end / 4)
    end += buffer.size
  }
  device.queue.submit([encoder.finish()])
  await staging.mapAsync(GPUMapMode.READ)
  const all = new Uint32Array(staging.getMappedRange().slice(0))
  staging.destroy()
  return buffers.map(({ size }, i) => all.subarray(starts[i], starts[i] + size / 4))
}

function compareWords(found: Words, wanted: Words): string | undefined {
  const at = wanted.findIndex((word, i) => word !== found[i])
  const hex = (word: number) => `0x${word.toString(16)}`
  return at < 0 ? undefined : `word ${at} of ${wanted.length} is ${hex(found[at])}, not ${hex(wanted[at])}`
}
