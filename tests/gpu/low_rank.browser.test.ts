import { afterAll, expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { halvesToFloats } from '../../src/format/float16.ts'
import { tilingOf, weightsOf } from '../../src/format/index.ts'
import { LONG } from '../tier.ts'
import {
  container,
  deltaOf,
  denseOf,
  type Engine,
  engineFor,
  type Layout,
  type NewSection,
  placementOf,
  ternaryOf,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

interface Target {
  name: string
  shape: number[]
  layout: 'linear' | 'conv1d' | 'conv2d' | 'embedding'
  placement: Layout
}

const TARGETS: Target[] = [
  { name: 'linear.weight', shape: [48, 70], layout: 'linear', placement: 'transposed' },
  { name: 'conv1d.weight', shape: [70, 33], layout: 'conv1d', placement: 'rows' },
  { name: 'conv2d.weight', shape: [12, 5, 3, 3], layout: 'conv2d', placement: 'rows' },
  { name: 'embedding.weight', shape: [90, 32], layout: 'embedding', placement: 'rows' },
]
const BIAS = { name: 'linear.bias', shape: [48] }

const random = new Random(7)
const base = await container('base', [
  ...TARGETS.map(({ name, shape }) => denseOf(name, shape, random.floats(weightsOf(shape)), 'f16')),
  denseOf(BIAS.name, BIAS.shape, random.floats(48), 'f16'),
])

function inputs(dtype: 'float32' | 'float16'): HoistedInput[] {
  return [...TARGETS, { ...BIAS, placement: 'rows' as Layout }].map(({ name, shape, placement }) => ({
    name,
    dtype,
    dims: [weightsOf(shape)],
    parts: [placementOf(name, shape, placement)],
  }))
}

const engines: Engine[] = []
afterAll(() => {
  for (const engine of engines) engine.destroy()
})

async function engineOf(dtype: 'float32' | 'float16'): Promise<Engine> {
  const engine = await engineFor(base, inputs(dtype))
  engines.push(engine)
  return engine
}

/** Weights of a tensor in checkpoint order as they are in VRAM. */
async function valuesOf(
  { weights }: Engine,
  name: string,
  dtype: 'float32' | 'float16',
): Promise<Float32Array> {
  const [{ offset, rowStride, colStride }] = weights.placementsOf(name)
  const bytes = await weights.read(name)
  const raw = dtype === 'float32' ? new Float32Array(bytes) : halvesToFloats(new Uint16Array(bytes))
  const { rows, cols } = tilingOf(weights.shapeOf(name))
  return Float32Array.from({ length: rows * cols }, (_, flat) => {
    return raw[offset + Math.floor(flat / cols) * rowStride + (flat % cols) * colStride]
  })
}

function differ(found: Float32Array, wanted: (flat: number) => number): number {
  return found.reduce((worst, value, flat) => Math.max(worst, Math.abs(value - wanted(flat))), 0)
}

/** Ins and outs of a module by its weight's shape. */
function sides({ shape, layout }: Target) {
  const { rows, cols } = tilingOf(shape)
  return layout === 'conv1d' || layout === 'embedding' ? { ins: rows, outs: cols } : { ins: cols, outs: rows }
}

function loraExpert(rank: number, scaling: number) {
  const sections: NewSection[] = []
  for (const target of TARGETS) {
    const { ins, outs } = sides(target)
    const extra = { target: target.name, layout: target.layout }
    const shapeA = target.layout === 'conv2d' ? [rank, 5, 3, 3] : [rank, ins]
    const shapeB = target.layout === 'conv2d' ? [outs, rank, 1, 1] : [outs, rank]
    const entries = randomEntries(rank * ins, 0.3, random)
    sections.push(ternaryOf(`${target.name}.A`, shapeA, entries, 0.125, { ...extra, role: 'loraA' }))
    sections.push(
      denseOf(`${target.name}.B`, shapeB, random.floats(outs * rank), 'f16', {
        ...extra,
        role: 'loraB',
        scaling,
      }),
    )
  }
  return container('expert', sections)
}

type Expert = Awaited<ReturnType<typeof loraExpert>>

function loraDelta(expert: Expert, target: Target, rank: number, scaling: number) {
  const { ins, outs } = sides(target)
  const a = deltaOf(expert, `${target.name}.A`)
  const b = deltaOf(expert, `${target.name}.B`)
  const { cols } = tilingOf(target.shape)
  const transposed = target.layout === 'conv1d' || target.layout === 'embedding'
  return (flat: number) => {
    const [r, c] = [Math.floor(flat / cols), flat % cols]
    const [out, input] = transposed ? [c, r] : [r, c]
    let sum = 0
    for (let k = 0; k < rank; k++) sum += b[out * rank + k] * a[k * ins + input]
    expect(out < outs && input < ins).toBe(true)
    return sum * scaling
  }
}

// In the quick tier merge.browser.test.ts has factors of every layout in both dtypes.
test.each(LONG ? (['float32', 'float16'] as const) : (['float32'] as const))(
  'LoRA factors merge into %s weights of every layout',
  async (dtype) => {
    const engine = await engineOf(dtype)
    const before = await engine.weights.checksum()
    const [first, second] = [await loraExpert(5, 2), await loraExpert(19, 0.5)]
    const delta = await container('expert', [
      ternaryOf('linear.weight', [48, 70], randomEntries(48 * 70, 0.1, random), 2 ** -6),
    ])
    const residents = [await engine.load(first), await engine.load(second), await engine.load(delta)]
    const tolerance = dtype === 'float32' ? 1e-6 : 1e-3

    await engine.switcher.apply([{ expert: residents[0], weight: 1 }])
    for (const target of TARGETS) {
      const original = deltaOf(base, target.name)
      const added = loraDelta(first, target, 5, 2)
      const found = await valuesOf(engine, target.name, dtype)
      expect(differ(found, (flat) => original[flat] + added(flat))).toBeLessThan(tolerance)
      expect(differ(found, (flat) => original[flat])).toBeGreaterThan(0.01)
    }

    await engine.switcher.apply([
      { expert: residents[1], weight: 0.5 },
      { expert: residents[2], weight: 1 },
      { expert: residents[0], weight: -1 },
    ])
    for (const target of TARGETS) {
      const original = deltaOf(base, target.name)
      const one = loraDelta(first, target, 5, 2)
      const two = loraDelta(second, target, 19, 0.5)
      const ternary = target.name === 'linear.weight' ? deltaOf(delta, 'linear.weight') : undefined
      const found = await valuesOf(engine, target.name, dtype)
      const wanted = (flat: number) => original[flat] - one(flat) + 0.5 * two(flat) + (ternary?.[flat] ?? 0)
      expect(differ(found, wanted)).toBeLessThan(tolerance)
    }

    await engine.switcher.apply([{ expert: residents[2], weight: 1 }])
    await engine.switcher.revert()
    expect(await engine.weights.checksum()).toBe(before)
  },
)

test.each(['float32', 'float16'] as const)('(IA)³ vectors scale %s weights and the bias', async (dtype) => {
  const engine = await engineOf(dtype)
  const before = await engine.weights.checksum()
  const vector = (target: Target, shape: number[], feedforward: boolean) =>
    denseOf(`${target.name}.l`, shape, random.floats(weightsOf(shape), 0.5), 'f16', {
      target: target.name,
      layout: target.layout,
      role: 'ia3',
      feedforward,
    })
  const [linear, conv1d, conv2d] = TARGETS
  const expert = await container('expert', [
    vector(linear, [48, 1], false),
    vector(conv1d, [1, 70], true),
    vector(conv2d, [1, 5, 1, 1], true),
  ])
  const resident = await engine.load(expert)
  await engine.switcher.apply([{ expert: resident, weight: 0.5 }])
  const scaleOf = (target: Target, of: (flat: number) => number) => {
    const l = deltaOf(expert, `${target.name}.l`)
    return (flat: number) => 1 + 0.5 * l[of(flat)]
  }
  const cases: [string, (flat: number) => number][] = [
    [linear.name, scaleOf(linear, (flat) => Math.floor(flat / 70))],
    [conv1d.name, scaleOf(conv1d, (flat) => Math.floor(flat / 33))],
    [conv2d.name, scaleOf(conv2d, (flat) => Math.floor((flat % 45) / 9))],
    [BIAS.name, scaleOf(linear, (flat) => flat)],
  ]
  for (const [name, scale] of cases) {
    const original = deltaOf(base, name)
    const found = await valuesOf(engine, name, dtype)
    expect(differ(found, (flat) => original[flat] * scale(flat))).toBeLessThan(
      dtype === 'float32' ? 1e-7 : 1e-4,
    )
    expect(differ(found, (flat) => original[flat])).toBeGreaterThan(0.001)
  }
  await engine.switcher.revert()
  expect(await engine.weights.checksum()).toBe(before)
})

test('a factor without its other half, or of another size, is refused before anything changes', async () => {
  const engine = await engineOf('float32')
  const before = await engine.weights.checksum()
  const a = ternaryOf('A', [4, 70], randomEntries(280, 0.5, random), 1, {
    role: 'loraA',
    target: 'linear.weight',
    layout: 'linear',
  })
  const b = ternaryOf('B', [47, 4], randomEntries(188, 0.5, random), 1, {
    role: 'loraB',
    target: 'linear.weight',
    layout: 'linear',
  })
  const half = await engine.load(await container('expert', [a]))
  const odd = await engine.load(await container('expert', [a, b]))
  await expect(engine.switcher.apply([{ expert: half, weight: 1 }])).rejects.toMatchObject({ tag: 'format' })
  await expect(engine.switcher.apply([{ expert: odd, weight: 1 }])).rejects.toMatchObject({ tag: 'base' })
  expect(() => engine.switcher.check(odd.table)).toThrow(/expected factors/)
  expect(engine.switcher.current).toEqual([])
  expect([half.references, odd.references]).toEqual([1, 1])
  expect(await engine.weights.checksum()).toBe(before)
})
