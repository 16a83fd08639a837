import type { AdapterFacts, Gpu, SetEntry } from '../../src/gpu/index.ts'
import type { TargetDtype } from '../../src/gpu/target.ts'
import { tuningOf } from '../../src/gpu/tuning.ts'
import { type ShapedModel, shapedWorld, shapesOf } from './shapes.ts'

export interface ShapedBenchOptions {
  models: readonly ShapedModel[]
  dtypes: readonly TargetDtype[]
  density: number
  /** Of every size: the list of a machine that has no GPU. */
  divisor: number
  rounds: number
  /** Tensors a dispatch, one after the other; as many as the GPU takes, and one, by default. */
  slots?: readonly number[]
}

/** One way to switch all tensors of a model; times are the best of all rounds, in ms. */
export interface ShapedCase {
  model: ShapedModel
  dtype: TargetDtype
  tensors: number
  weights: number
  /** Buffers of weights that a dispatch binds; 1 is one tensor a dispatch. */
  slots: number
  switch: string
  dispatches: number
  encodeMs: number
  /** With timestamps, else `totalMs` says what there is to say. */
  gpuMs?: number
  totalMs: number
  /** Bytes of all weights, read and written once, over the GPU's time. */
  gbps?: number
  /** Times that a copy of as many bytes takes. */
  vsCopy?: number
}

export interface ShapedReport {
  adapter: Pick<AdapterFacts, 'vendor' | 'architecture' | 'description' | 'software'>
  cases: ShapedCase[]
}

/**
 * Times switches of whole models.
 * @throws {Error} where the weights are not what they were after a way to switch and back
 */
export async function runShaped(
  gpu: Gpu,
  { models, dtypes, density, divisor, rounds, slots = [slotsOf(gpu), 1] }: ShapedBenchOptions,
  onCase: (done: ShapedCase) => void = () => {},
): Promise<ShapedReport> {
  const { vendor, architecture, description, software } = gpu.adapter
  const cases: ShapedCase[] = []
  for (const model of models) {
    for (const dtype of dtypes) {
      const tensors = shapesOf(model, divisor)
      const best = new Map<string, ShapedCase>()
      const copyMs = await timeCopy(gpu, tensors, dtype, rounds)
      for (const count of slots) {
        const world = await shapedWorld({ ...gpu, tuning: { slots: count } }, tensors, {
          dtype,
          density,
          experts: 2,
        })
        const weights = tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0)
        const bytes = 2 * weights * (dtype === 'float16' ? 2 : 4)
        const before = await world.weights.checksum()
        for (let round = 0; round < rounds; round++) {
          // Another weight is another set, so that nothing is kept from the round before.
          const [a, b] = world.residents.map((expert): SetEntry[] => [{ expert, weight: 1 + round / 64 }])
          const steps: [string, SetEntry[]][] = [
            ['apply', a],
            ['A to B', b],
            ['B to A', a],
            ['A to B again', b],
            ['revert', []],
            ['blend of 2', [...a, ...b]],
            ['revert the blend', []],
          ]
          for (const [name, set] of steps) {
            const { dispatches, encodeMs, gpuMs, totalMs } = await world.switcher.measure(set)
            const key = `${count} ${name}`
            const known = best.get(key)
            const least = (value: number | undefined, old: number | undefined) =>
              value === undefined ? old : Math.min(value, old ?? value)
            const gpuBest = least(gpuMs, known?.gpuMs)
            best.set(key, {
              model,
              dtype,
              tensors: tensors.length,
              weights,
              slots: count,
              switch: name,
              dispatches,
              encodeMs: Math.min(encodeMs, known?.encodeMs ?? encodeMs),
              totalMs: Math.min(totalMs, known?.totalMs ?? totalMs),
              ...(gpuBest !== undefined && {
                gpuMs: gpuBest,
                gbps: bytes / gpuBest / 1e6,
                vsCopy: gpuBest / copyMs,
              }),
            })
          }
        }
        const isRestored = (await world.weights.checksum()) === before
        world.destroy()
        if (!isRestored) throw new Error(`${model}, ${dtype}: the weights are not those of the base again`)
      }
      for (const done of best.values()) {
        cases.push(done)
        onCase(done)
      }
    }
  }
  return { adapter: { vendor, architecture, description, software }, cases }
}

/** Tensors in a dispatch on this GPU, or on one with its limits where a CPU plays it. */
function slotsOf(gpu: Gpu): number {
  return tuningOf({ ...gpu, adapter: { ...gpu.adapter, software: false } }).slots
}

/** Copies as many bytes as the weights have, in buffers of 64 MiB at most. @returns ms, the best of all rounds */
async function timeCopy(
  { device }: Gpu,
  tensors: ReturnType<typeof shapesOf>,
  dtype: TargetDtype,
  rounds: number,
): Promise<number> {
  const weights = tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0)
  const bytes = Math.ceil((weights * (dtype === 'float16' ? 2 : 4)) / 16) * 16
  const size = Math.min(bytes, 2 ** 26)
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
  const [from, to] = [0, 1].map(() => device.createBuffer({ size, usage }))
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds + 1; round++) {
    const encoder = device.createCommandEncoder()
    for (let at = 0; at < bytes; at += size)
      encoder.copyBufferToBuffer(from, 0, to, 0, Math.min(size, bytes - at))
    const started = performance.now()
    device.queue.submit([encoder.finish()])
    await device.queue.onSubmittedWorkDone()
    best = Math.min(best, performance.now() - started)
  }
  from.destroy()
  to.destroy()
  return best
}

/** One line of the table. */
export function shapedLine(done: ShapedCase): string {
  const { model, dtype, tensors, slots, dispatches, encodeMs, gpuMs, totalMs, gbps, vsCopy } = done
  return [
    model.padEnd(8),
    dtype,
    done.switch.padEnd(16),
    `${tensors} tensors`,
    `${slots} a dispatch`.padStart(13),
    `${dispatches} dispatches`.padStart(15),
    `${encodeMs.toFixed(2)} ms to encode`.padStart(20),
    `${(gpuMs ?? totalMs).toFixed(2)} ms${gpuMs === undefined ? ' in all' : ''}`.padStart(12),
    ...(gbps === undefined
      ? []
      : [`${gbps.toFixed(1)} GB/s`.padStart(12), `${vsCopy?.toFixed(2)} × copy`.padStart(13)]),
  ].join(' ')
}
