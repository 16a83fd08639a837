import { expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { fromHalf, halfFromBits } from '../../src/format/float16.ts'
import { tilingOf, weightsOf } from '../../src/format/index.ts'
import type { Gpu, ResidentExpert } from '../../src/gpu/index.ts'
import { LONG } from '../tier.ts'
import {
  CLASSES,
  container,
  deltaOf,
  denseOf,
  engineFor,
  gpuOf,
  type Layout,
  placementOf,
  ternaryOf,
  testGpu,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

const SHAPES: [string, number[], Layout][] = [
  ['linear', [100, 200], 'rows'],
  ['transposed', [130, 67], 'transposed'],
  ['row', [1, 5000], 'rows'],
  ['column', [5001, 1], 'transposed'],
  ['vector', [333], 'rows'],
  ['conv', [12, 5, 3, 3], 'rows'],
  ['one', [1], 'rows'],
  // More blocks than any workgroup has invocations.
  ['wide', [72, 4096], 'transposed'],
]

async function world(dtype: 'float32' | 'float16', seed: number, gpu: Gpu) {
  const random = new Random(seed)
  const base = await container(
    'base',
    SHAPES.map(([name, shape]) => denseOf(name, shape, random.floats(weightsOf(shape)), 'f16')),
  )
  const inputs: HoistedInput[] = SHAPES.map(([name, shape, layout]) => ({
    name: `in.${name}`,
    dtype,
    dims: [weightsOf(shape)],
    parts: [placementOf(name, shape, layout)],
  }))
  const expert = (density: number, dense = false) =>
    container(
      'expert',
      SHAPES.filter(() => random.unit() < 0.9).map(([name, shape]) =>
        dense && random.unit() < 0.5
          ? denseOf(name, shape, random.floats(weightsOf(shape), 0.01), random.pick(['f16', 'f32'] as const))
          : ternaryOf(
              name,
              shape,
              randomEntries(weightsOf(shape), density, random),
              Math.fround(0.001 + random.unit() / 100),
            ),
      ),
    )
  const experts = [
    await expert(0.05),
    await expert(0.2),
    await expert(1),
    await expert(0),
    await expert(0.5, true),
  ]
  return { random, base, inputs, experts, engine: await engineFor(base, inputs, undefined, gpu) }
}

/** The weights of one tensor, in its layout, with a set of deltas on top, each kind an f32 sum that is rounded once. */
function expected(
  base: Float32Array,
  shape: number[],
  layout: Layout,
  dtype: string,
  kinds: readonly (readonly [Float32Array, number][])[],
) {
  const { rows, cols } = tilingOf(shape)
  const words = dtype === 'float32' ? new Uint32Array(rows * cols) : new Uint16Array(rows * cols)
  const value = new Float32Array(1)
  const bits = new Uint32Array(value.buffer)
  for (let flat = 0; flat < rows * cols; flat++) {
    value[0] = base[flat]
    for (const deltas of kinds) {
      const added = deltas.filter(([values]) => values[flat] !== 0)
      const parts = added.map(([values, weight]) => Math.fround(values[flat] * weight))
      if (parts.length > 0) value[0] += parts.reduce((sum, part) => Math.fround(sum + part))
      if (dtype === 'float16') value[0] = fromHalf(halfFromBits(bits[0]))
    }
    const at = layout === 'rows' ? flat : (flat % cols) * rows + Math.floor(flat / cols)
    words[at] = dtype === 'float32' ? bits[0] : halfFromBits(bits[0])
  }
  return words
}

const CASES = (['float32', 'float16'] as const).flatMap((dtype, d) =>
  (Object.keys(CLASSES) as (keyof typeof CLASSES)[])
    // In the quick tier each dtype on one class of GPUs.
    .filter((_, c) => LONG || c === d)
    .map((name) => [dtype, name] as const),
)

test.each(CASES)('sets of experts on %s weights, and back, as on %s', async (dtype, name) => {
  const { random, base, experts, engine, inputs } = await world(dtype, 1, gpuOf(await testGpu(), name))
  const { weights, switcher } = engine
  const residents: ResidentExpert[] = []
  for (const expert of experts) residents.push(await engine.load(expert))
  const before = await weights.checksum()

  const some = (size: number) =>
    Array.from({ length: size }, () => {
      const i = random.integer(0, experts.length - 1)
      return { i, weight: Math.fround(random.pick([1, 0.5, -1, 0.3])) }
    })
  // The expert with dense tensors alone comes first: applied, with another weight, reverted.
  const sets = [[{ i: 4, weight: 1 }], [{ i: 4, weight: 0.5 }], []]
  for (let round = 0; round < 14; round++) sets.push(some(round < 6 ? 1 : random.integer(0, 4)))

  for (const [round, set] of sets.entries()) {
    await switcher.apply(set.map(({ i, weight }) => ({ expert: residents[i], weight })))
    for (const [t, [name, shape, layout]] of SHAPES.entries()) {
      const deltas = set
        .filter(({ i }) => experts[i].head.table.tensors.some((tensor) => tensor.name === name))
        .map(({ i, weight }) => ({
          isDense: experts[i].head.table.tensors.some((own) => own.name === name && own.codec === 'dense'),
          delta: [deltaOf(experts[i], name), weight] as [Float32Array, number],
        }))
      // Dense deltas of matrices are added to the base, the others on top of them.
      const { rows, cols } = tilingOf(shape)
      const isFirst = ({ isDense }: { isDense: boolean }) => isDense && rows > 1 && cols > 1
      const kinds = [deltas.filter(isFirst), deltas.filter((delta) => !isFirst(delta))]
      const lists = kinds.map((kind) => kind.map(({ delta }) => delta))
      const want = expected(deltaOf(base, name), shape, layout, dtype, lists)
      const found = await weights.read(inputs[t].name)
      const words = dtype === 'float32' ? new Uint32Array(found) : new Uint16Array(found)
      let wrong = 0
      for (let i = 0; i < words.length; i++) if (words[i] !== want[i]) wrong++
      expect({ round, name, wrong, set }).toEqual({ round, name, wrong: 0, set })
    }
  }
  // Calls must not overlap: a second one is refused, and does nothing to the first.
  const under = switcher.apply([{ expert: residents[0], weight: 1 }])
  await expect(switcher.revert()).rejects.toThrow(/under way/)
  await under
  expect(switcher.current).toHaveLength(1)
  await switcher.revert()
  expect(await weights.checksum()).toBe(before)
  expect(switcher.journalBytes).toBe(0)
  engine.destroy()
})
