import { describe, expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { encodeExact } from '../../src/format/codecs/exact_code.ts'
import { halvesToFloats } from '../../src/format/float16.ts'
import { weightsOf } from '../../src/format/index.ts'
import {
  bitsFromUnit,
  forEachStep,
  type StepUnit,
  steppedValue,
  unitFromBits,
} from '../../src/format/steps.ts'
import {
  type CLASSES,
  container,
  denseOf,
  engineFor,
  gpuOf,
  type Layout,
  type NewSection,
  placementOf,
  termsOf,
  ternaryOf,
  testGpu,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

const SHAPE = [70, 130]

/** Steps of one weight in twenty, in a section. */
function exactOf(name: string, shape: readonly number[], unit: StepUnit, random: Random) {
  const places = Uint32Array.from(randomEntries(weightsOf(shape), 0.05, random).indices)
  // As far as a fine-tuning goes: never to what is no number.
  const all = { places, steps: Int32Array.from(places, () => random.pick([1, -1, 1, 2, -3, 90, -100])) }
  const { words, ...code } = encodeExact(unit, all)
  const tensor = { name, target: name, shape, role: 'delta', codec: 'exact', ...code } as const
  return { section: { tensor, section: words } satisfies NewSection, all }
}

/** A base of one matrix and one vector in a dtype, its values those of a unit. */
async function engineOf(
  dtype: 'float32' | 'float16',
  unit: StepUnit,
  layout: Layout,
  kind: keyof typeof CLASSES = 'a GPU',
) {
  const random = new Random(7)
  const floats = (shape: readonly number[]) => {
    const values = random.floats(weightsOf(shape))
    const bits = new Uint32Array(values.buffer)
    // Those of both, so that a base in f16 has them too.
    for (const own of ['f16', unit] as const)
      for (const [i, bit] of bits.entries()) bits[i] = bitsFromUnit(unitFromBits(bit, own), own)
    return values
  }
  const tensors = { w: floats(SHAPE), v: floats([300]) }
  const base = await container('base', [
    denseOf('w', SHAPE, tensors.w, 'f32'),
    denseOf('v', [300], tensors.v, 'f32'),
  ])
  const inputs: HoistedInput[] = [
    { name: 'in.w', dtype, dims: SHAPE, parts: [placementOf('w', SHAPE, layout)] },
    { name: 'in.v', dtype, dims: [300], parts: [placementOf('v', [300], 'rows')] },
  ]
  const engine = await engineFor(base, inputs, undefined, gpuOf(await testGpu(), kind))
  const read = async (name: 'w' | 'v') => {
    const bytes = await engine.weights.read(`in.${name}`)
    const raw = dtype === 'float32' ? new Float32Array(bytes) : halvesToFloats(new Uint16Array(bytes))
    if (name === 'v' || layout === 'rows') return raw
    return Float32Array.from(
      raw,
      (_, flat) => raw[(flat % SHAPE[1]) * SHAPE[0] + Math.floor(flat / SHAPE[1])],
    )
  }
  return { ...engine, destroy: () => engine.destroy(), load: engine.load.bind(engine), tensors, read, random }
}

function moved(
  values: Float32Array,
  shape: readonly number[],
  unit: StepUnit,
  all: ReturnType<typeof exactOf>['all'],
) {
  const out = values.slice()
  forEachStep(shape, all, (index, step) => {
    out[index] = steppedValue(out[index], step, unit)
  })
  return out
}

const asHalf = (values: Float32Array) => {
  const bits = new Uint32Array(values.slice().buffer)
  return new Float32Array(bits.map((bit) => bitsFromUnit(unitFromBits(bit, 'f16'), 'f16')).buffer)
}

describe.each([
  ['float32', 'bf16', 'rows', 'a GPU'],
  ['float32', 'f16', 'transposed', 'a CPU that plays GPU'],
  ['float32', 'f32', 'rows', 'a GPU'],
  ['float16', 'bf16', 'transposed', 'a GPU'],
  ['float16', 'f16', 'rows', 'a CPU that plays GPU'],
] as const)('over weights in %s, steps in %s, weights in %s, on %s', (dtype, unit, layout, kind) => {
  test('are the fine-tuned weights bit for bit, and go again', async () => {
    const engine = await engineOf(dtype, unit, layout, kind)
    const { switcher, weights, random, tensors } = engine
    const [w, v, other] = [
      exactOf('w', SHAPE, unit, random),
      exactOf('v', [300], unit, random),
      exactOf('w', SHAPE, unit, random),
    ]
    const first = await engine.load(await container('expert', [w.section, v.section]))
    const second = await engine.load(await container('expert', [other.section]))
    const ternary = ternaryOf('w', SHAPE, randomEntries(weightsOf(SHAPE), 0.1, random), 0.5)
    const third = await engine.load(await container('expert', [ternary]))
    const stored = (values: Float32Array) => (dtype === 'float16' ? asHalf(values) : values)
    const before = await weights.checksum()
    const wanted = {
      w: stored(moved(tensors.w, SHAPE, unit, w.all)),
      v: stored(moved(tensors.v, [300], unit, v.all)),
    }
    await switcher.apply([{ expert: first, weight: 1 }])
    expect(await engine.read('w')).toEqual(wanted.w)
    expect(await engine.read('v')).toEqual(wanted.v)
    expect(switcher.copyBytes).toBe(0)
    expect(switcher.journalBytes).toBeLessThan(weights.bytes / 4)
    // From steps to other steps, to a ternary delta and back: each from the base.
    await switcher.apply([{ expert: second, weight: 1 }])
    expect(await engine.read('w')).toEqual(stored(moved(tensors.w, SHAPE, unit, other.all)))
    expect(await engine.read('v')).toEqual(tensors.v)
    await switcher.apply([{ expert: third, weight: 1 }])
    await switcher.apply([{ expert: first, weight: 1 }])
    expect(await engine.read('w')).toEqual(wanted.w)
    await switcher.revert()
    expect(await weights.checksum()).toBe(before)
    engine.destroy()
  })

  test('settle before what other experts of a set do to the same weights', async () => {
    const engine = await engineOf(dtype, unit, layout, kind)
    const { switcher, weights, random, tensors } = engine
    const w = exactOf('w', SHAPE, unit, random)
    const entries = randomEntries(weightsOf(SHAPE), 0.1, random)
    const lossless = await engine.load(await container('expert', [w.section]))
    const ternary = await engine.load(await container('expert', [ternaryOf('w', SHAPE, entries, 0.25)]))
    const terms = await engine.load(await container('expert', [termsOf('w', SHAPE, 1, random)]))
    const before = await weights.checksum()
    const stored = (values: Float32Array) => (dtype === 'float16' ? asHalf(values) : values)
    const wanted = stored(moved(tensors.w, SHAPE, unit, w.all))
    for (const [i, index] of entries.indices.entries())
      wanted[index] = Math.fround(wanted[index] + (entries.negative[i] ? -0.25 : 0.25))
    // In either order of the set.
    for (const set of [
      [ternary, lossless],
      [lossless, ternary],
    ]) {
      await switcher.apply(set.map((expert) => ({ expert, weight: 1 })))
      expect(await engine.read('w')).toEqual(stored(wanted))
    }
    await switcher.apply([lossless, ternary, terms].map((expert) => ({ expert, weight: 1 })))
    await switcher.apply([{ expert: lossless, weight: 1 }])
    expect(await engine.read('w')).toEqual(stored(moved(tensors.w, SHAPE, unit, w.all)))
    await expect(
      switcher.apply([
        { expert: lossless, weight: 1 },
        { expert: lossless, weight: 0.5 },
      ]),
    ).rejects.toMatchObject({
      tag: 'unsupported',
      message: expect.stringContaining('2 lossless experts on w'),
    })
    await switcher.revert()
    expect(await weights.checksum()).toBe(before)
    engine.destroy()
  })
})

test('a share of a lossless expert goes a share of the way', async () => {
  const engine = await engineOf('float32', 'bf16', 'rows')
  const w = exactOf('w', SHAPE, 'bf16', engine.random)
  const expert = await engine.load(await container('expert', [w.section]))
  await engine.switcher.apply([{ expert, weight: 0.5 }])
  const whole = moved(engine.tensors.w, SHAPE, 'bf16', w.all)
  const wanted = engine.tensors.w.map((value, i) => value + 0.5 * Math.fround(whole[i] - value))
  expect(await engine.read('w')).toEqual(wanted)
  engine.destroy()
})

test('a section that contradicts the table is refused by name', async () => {
  const engine = await engineOf('float32', 'bf16', 'rows')
  const w = exactOf('w', SHAPE, 'bf16', engine.random)
  const { head, payload } = await container('expert', [w.section])
  const upload = await engine.experts.begin(head)
  expect(() => upload.write(0, payload.fill(0))).toThrow('w: Cannot decode an exact section')
  upload.cancel()
  engine.destroy()
})
