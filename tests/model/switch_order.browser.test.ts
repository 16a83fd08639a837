import { expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import { ExpertRuntime } from '../../src/model/expert_runtime.ts'
import type { GpuTensor } from '../../src/model/hoisted_session.ts'
import { CLASSES, container, denseOf, engineFor, gpuOf, placementOf, ternaryOf } from '../gpu/fixtures.ts'
import { Random, randomEntries } from '../gpu/random.ts'
import { LONG } from '../tier.ts'

/** A switch that takes a CPU which plays GPU some turns of the event loop. */
const SHAPE = [512, 512]
const TOKENS = 4

/** What differs between the classes is how a switch is made, not when. */
const classes = Object.keys(CLASSES) as (keyof typeof CLASSES)[]

test.each(LONG > 0 ? classes : classes.slice(0, 1))(
  "a token's pass is queued before the GPU has done the switch, and reads the weights of its set, on %s",
  async (name) => {
    const gpu = gpuOf(await requestGpu(), name)
    const { queue } = gpu.device
    const random = new Random(3)
    const values = random.floats(SHAPE[0] * SHAPE[1])
    const base = await container('base', [denseOf('w', SHAPE, values, 'f32')])
    const inputs: HoistedInput[] = [
      { name: 'w', dtype: 'float32', dims: SHAPE, parts: [placementOf('w', SHAPE, 'rows')] },
    ]
    const engine = await engineFor(base, inputs, undefined, gpu)
    const load = async (density: number) =>
      engine.load(
        await container('expert', [
          ternaryOf('w', SHAPE, randomEntries(values.length, density, random), 0.25),
        ]),
      )
    const experts = [await load(0.2), await load(0.3)]

    // What was submitted and what the GPU has done, in the order in which this thread hears of it.
    const heard: string[] = []
    const note = (what: string) => {
      heard.push(`${what} queued`)
      void queue.onSubmittedWorkDone().then(() => heard.push(`${what} done`))
    }
    const { switcher } = engine
    const runtime = new ExpertRuntime({
      weights: engine.weights,
      switcher: {
        prepareSet: (set: Parameters<typeof switcher.prepareSet>[0]) => switcher.prepareSet(set),
        apply: (set: Parameters<typeof switcher.apply>[0], options: Parameters<typeof switcher.apply>[1]) =>
          switcher.apply(set, {
            ...options,
            onSubmitted: () => {
              note('switch')
              options?.onSubmitted?.()
            },
          }),
      } as typeof switcher,
    })
    // A forward pass: it copies the weights that it finds.
    const session = {
      inputNames: ['w'],
      run: async (feeds: Record<string, unknown>) => {
        const { gpuBuffer } = feeds.w as GpuTensor
        const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ
        const found = gpu.device.createBuffer({ size: gpuBuffer.size, usage })
        const encoder = gpu.device.createCommandEncoder()
        encoder.copyBufferToBuffer(gpuBuffer, 0, found, 0, gpuBuffer.size)
        queue.submit([encoder.finish()])
        note('pass')
        return { found }
      },
    }
    const read = async ({ found }: Record<string, unknown>) => {
      const buffer = found as GPUBuffer
      await buffer.mapAsync(GPUMapMode.READ)
      const weights = new Float32Array(buffer.getMappedRange().slice(0))
      buffer.destroy()
      return weights
    }
    const sets = experts.map((expert) => runtime.set([{ expert, weight: 1 }]))
    const context = runtime.passContext()
    const { model } = runtime.sessions({ model: session }, context)

    // What each set makes of the weights, told apart by waiting for everything.
    const wanted: Float32Array[] = []
    for (const set of sets) {
      await runtime.activate(set)
      await queue.onSubmittedWorkDone()
      wanted.push(await read(await model.run({})))
    }
    expect(wanted[0].some((weight, i) => weight !== wanted[1][i])).toBe(true)
    await queue.onSubmittedWorkDone()
    for (let token = 0; token < TOKENS; token++) {
      heard.length = 0
      const set = sets[token % 2]
      const switched = runtime.activate(set)
      const outputs = await model.run({})
      const weights = await read(outputs)
      await switched
      expect(heard.slice(0, 3)).toEqual(['switch queued', 'pass queued', 'switch done'])
      expect(context.ran).toBe(set)
      expect(weights.findIndex((weight, i) => weight !== wanted[token % 2][i])).toBe(-1)
    }
    engine.destroy()
    gpu.device.destroy()
  },
)
