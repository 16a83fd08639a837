import { describe, expect, test } from 'vitest'
import { type ShapedModel, shapedWorld, shapesOf } from '../../bench/kernels/shapes.ts'
import { recordingGpu } from './recording_device.ts'

/** Tensors for each dispatch, at least: from the base or to it, and from one expert to another. */
const BARS = { 8: { one: 4, both: 3 }, 16: { one: 10, both: 8 } } as const

describe.each([8, 16] as const)('with %i storage buffers a stage', (limit) => {
  test.each([
    ['qwen', 168],
    ['smollm2', 272],
  ] as const)('a switch of all tensors of %s takes few dispatches', async (model: ShapedModel, tensors) => {
    const shapes = shapesOf(model, 16)
    expect(shapes).toHaveLength(tensors)
    const { gpu, counts } = recordingGpu(limit)
    const { switcher, residents } = await shapedWorld(gpu, shapes, {
      dtype: 'float16',
      density: 0.05,
      experts: 3,
    })
    const [a, b, c] = residents.map((expert) => [{ expert, weight: 1 }])
    const dispatchesOf = async (set: typeof a) => {
      const before = counts.dispatches
      await switcher.apply(set)
      return counts.dispatches - before
    }
    const { one, both } = BARS[limit]
    expect(await dispatchesOf(a)).toBeLessThanOrEqual(tensors / one)
    expect(await dispatchesOf(b)).toBeLessThanOrEqual(tensors / both)
    expect(await dispatchesOf([...b, ...c])).toBeLessThanOrEqual(tensors / both)
    expect(await dispatchesOf([])).toBeLessThanOrEqual(tensors / one)
  })
})

test('going back and forth between two experts binds and allocates nothing anew', async () => {
  const { gpu, counts } = recordingGpu(8)
  const { switcher, residents } = await shapedWorld(gpu, shapesOf('qwen', 16), {
    dtype: 'float32',
    density: 0.05,
    experts: 2,
  })
  const [a, b] = residents.map((expert) => [{ expert, weight: 1 }])
  for (const set of [a, b, a]) await switcher.apply(set)
  const { bindGroups, buffers } = counts
  for (const set of [b, a, b, a]) await switcher.apply(set)
  expect(counts).toMatchObject({ bindGroups, buffers })
  // What is kept for the next set is given back when asked for.
  expect(switcher.spareBytes).toBeGreaterThan(0)
  switcher.trim()
  expect(switcher.spareBytes).toBe(0)
  await switcher.apply(b)
  expect(counts.buffers).toBeGreaterThan(buffers)
})

test('the next expert is bound as the ones before it', async () => {
  const { gpu, counts } = recordingGpu(8)
  const { switcher, residents } = await shapedWorld(gpu, shapesOf('qwen', 16), {
    dtype: 'float32',
    density: 0.05,
    experts: 4,
  })
  const [a, b, c, d] = residents.map((expert) => [{ expert, weight: 1 }])
  for (const set of [a, b, a]) await switcher.apply(set)
  const { bindGroups, buffers } = counts
  for (const set of [c, d, b, d]) await switcher.apply(set)
  expect(counts).toMatchObject({ bindGroups, buffers })
})

test('an expert of one kind of layer fills whole dispatches too', async () => {
  const { gpu, counts } = recordingGpu(8)
  const shapes = shapesOf('qwen', 16)
  const some = shapes.filter(({ name }) => /[qv]_proj/.test(name))
  const { switcher, residents } = await shapedWorld(gpu, shapes, {
    dtype: 'float32',
    density: 0.05,
    experts: 1,
    changed: some,
  })
  const before = counts.dispatches
  await switcher.apply([{ expert: residents[0], weight: 1 }])
  expect(counts.dispatches - before).toBeLessThanOrEqual(some.length / 4)
})

test('a CPU that plays GPU has one tensor a dispatch', async () => {
  const { gpu, counts } = recordingGpu(16)
  const software = { ...gpu, adapter: { ...gpu.adapter, software: true } }
  const { switcher, residents } = await shapedWorld(software, shapesOf('qwen', 16), {
    dtype: 'float32',
    density: 0.05,
    experts: 1,
  })
  const before = counts.dispatches
  await switcher.apply([{ expert: residents[0], weight: 1 }])
  expect(counts.dispatches - before).toBe(168)
})
