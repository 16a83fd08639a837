import { expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import { type BoundEntry, type ExpertSet, mergedPart } from '../../src/model/expert_set.ts'
import { LayerGroups } from '../../src/model/layer_groups.ts'
import { container, deltaOf, denseOf, engineFor, placementOf, termsOf, ternaryOf } from '../gpu/fixtures.ts'
import { Random, randomEntries } from '../gpu/random.ts'

const SHAPE = [96, 80]
const SIZE = 96 * 80
const LAYERS = 4

test('experts with another weight in each group of layers merge so on a GPU, and go again', async () => {
  const gpu = await requestGpu()
  const random = new Random(5)
  const names = Array.from({ length: LAYERS }, (_, i) => `layers.${i}.w`)
  const values = new Map(names.map((name) => [name, random.floats(SIZE)]))
  const base = await container(
    'base',
    names.map((name) => denseOf(name, SHAPE, values.get(name)!, 'f32')),
  )
  const inputs = names.map((name): HoistedInput => {
    return { name, dtype: 'float32', dims: SHAPE, parts: [placementOf(name, SHAPE, 'rows')] }
  })
  const engine = await engineFor(base, inputs, undefined, gpu)
  const files = [
    await container(
      'expert',
      names.map((name) => ternaryOf(name, SHAPE, randomEntries(SIZE, 0.2, random), 0.25)),
    ),
    await container(
      'expert',
      names.map((name) => termsOf(name, SHAPE, 2, random)),
    ),
  ]
  const factors = [
    [1, 0, -0.5, 0.25],
    [0.5, 2],
  ]
  const layers = new LayerGroups(names)
  const experts: BoundEntry[] = []
  for (const [i, file] of files.entries()) {
    const merged = new Set(file.head.table.tensors.keys())
    experts.push({
      expert: await engine.load(file),
      weight: 2,
      groups: { factors: factors[i], layers },
      binding: { merged, bypass: [] },
    })
  }
  const set: ExpertSet = { id: 1, experts }
  const before = await engine.weights.checksum()
  await engine.switcher.apply(mergedPart(set))
  for (const [layer, name] of names.entries()) {
    const found = new Float32Array(await engine.weights.read(name))
    const deltas = files.map((file) => deltaOf(file, name))
    const weights = factors.map((row) => 2 * row[Math.floor((layer * row.length) / LAYERS)])
    const off = values
      .get(name)!
      .map((value, at) =>
        Math.abs(value + weights[0] * deltas[0][at] + weights[1] * deltas[1][at] - found[at]),
      )
    expect(Math.max(...off), name).toBeLessThan(1e-5)
  }
  await engine.switcher.apply([])
  expect(await engine.weights.checksum()).toBe(before)
  engine.destroy()
  gpu.device.destroy()
})
