import { afterEach, expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import type { TernaryTensor } from '../../src/format/index.ts'
import type { ExpertUpload } from '../../src/gpu/index.ts'
import {
  type Container,
  container,
  denseOf,
  type Engine,
  engineFor,
  placementOf,
  ternaryOf,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

const SHAPES: [string, number[]][] = [
  ['a', [200, 130]],
  ['b', [64, 64]],
  ['c', [5000]],
]
const random = new Random(3)
const base = await container(
  'base',
  SHAPES.map(([name, shape]) => denseOf(name, shape, random.floats(shape.reduce((a, b) => a * b)), 'f32')),
)
const inputs: HoistedInput[] = SHAPES.map(([name, shape]) => ({
  name,
  dtype: 'float32',
  dims: shape,
  parts: [placementOf(name, shape, 'rows')],
}))

function expertOf(density: number): Promise<Container> {
  return container(
    'expert',
    SHAPES.map(([name, shape]) =>
      ternaryOf(
        name,
        shape,
        randomEntries(
          shape.reduce((a, b) => a * b),
          density,
          random,
        ),
        0.01,
      ),
    ),
  )
}

let engine: Engine
afterEach(() => engine?.destroy())

test('a resident expert takes its stream and at most 0.02 bit a weight more', async () => {
  engine = await engineFor(base, inputs)
  const big = await container('expert', [
    ternaryOf('a', [1000, 4096], randomEntries(4_096_000, 0.05, random), 0.01),
  ])
  const resident = await engine.load(big)
  expect(resident.bytes - big.payload.length).toBeLessThan((0.02 / 8) * 4_096_000)
  expect(engine.experts.stats()).toMatchObject({
    residents: 1,
    bytes: resident.bytes,
    arenaBytes: resident.bytes,
    uploads: 1,
  })
})

test('chunks may come in any order', async () => {
  engine = await engineFor(base, inputs)
  const expert = await expertOf(0.3)
  const whole = await engine.load(expert)
  await engine.switcher.apply([{ expert: whole, weight: 1 }])
  const wanted = await engine.weights.checksum()
  const upload = await engine.experts.begin(expert.head)
  const offsets = Array.from({ length: Math.ceil(expert.payload.length / 1024) }, (_, i) => i * 1024)
  for (const offset of offsets.reverse()) upload.write(offset, expert.payload.subarray(offset, offset + 1024))
  const again = await upload.finish()
  await engine.switcher.apply([{ expert: again, weight: 1 }])
  expect(await engine.weights.checksum()).toBe(wanted)
})

test('streams are indexed as they come, while other uploads start, end and are cancelled', async () => {
  const random = new Random(4)
  const shape = [512, 1024]
  const names = ['a', 'b', 'c']
  const expertOf = (density: number) =>
    container(
      'expert',
      names.map((name) => ternaryOf(name, shape, randomEntries(512 * 1024, density, random), 0.01)),
    )
  engine = await engineFor(
    await container(
      'base',
      names.map((name) => denseOf(name, shape, random.floats(512 * 1024), 'f32')),
    ),
    names.map((name) => ({
      name,
      dtype: 'float32',
      dims: shape,
      parts: [placementOf(name, shape, 'rows')],
    })),
  )
  const [first, second] = [await expertOf(0.05), await expertOf(0.1)]
  const whole = await engine.load(first)
  await engine.switcher.apply([{ expert: whole, weight: 1 }])
  const wanted = await engine.weights.checksum()
  const write = ({ payload }: Container, upload: ExpertUpload, from: number, to: number) => {
    for (let at = from; at < to; at += 4096) upload.write(at, payload.slice(at, Math.min(at + 4096, to)))
  }
  const half = Math.floor(first.payload.length / 8) * 4

  const upload = await engine.experts.begin(first.head)
  write(first, upload, half, first.payload.length)
  // The passes of this upload may still run when its span belongs to the next one.
  const cancelled = await engine.experts.begin(second.head)
  write(second, cancelled, 0, second.payload.length)
  cancelled.cancel()
  const other = await engine.experts.begin(second.head)
  write(second, other, 0, second.payload.length)
  write(first, upload, 0, half)
  const [again, resident] = await Promise.all([upload.finish(), other.finish()])
  await engine.switcher.apply([{ expert: again, weight: 1 }])
  expect(await engine.weights.checksum()).toBe(wanted)
  await engine.switcher.apply([{ expert: resident, weight: 1 }])
  const secondSum = await engine.weights.checksum()
  await engine.switcher.apply([{ expert: await engine.load(second), weight: 1 }])
  expect(await engine.weights.checksum()).toBe(secondSum)

  // The GPU finds this early; `finish` reports it.
  const lying = await expertOf(0.05)
  alter('kept', 0, 1)(lying)
  await expect(engine.load(lying)).rejects.toMatchObject({ tag: 'format', fields: { tensor: 'a' } })
})

test('the least recently used expert that nobody holds goes first, one in use never', async () => {
  const experts = [await expertOf(0.1), await expertOf(0.1), await expertOf(0.1), await expertOf(0.1)]
  const one = experts[0].payload.length + 8 * 20
  engine = await engineFor(base, inputs, 3.5 * one)
  const before = await engine.weights.checksum()
  const [a, b, c] = [
    await engine.load(experts[0]),
    await engine.load(experts[1]),
    await engine.load(experts[2]),
  ]
  await engine.switcher.apply([{ expert: a, weight: 1 }])
  const active = await engine.weights.checksum()
  for (const expert of [a, b, c]) expert.release()
  engine.experts.find(b.rootHash)
  const d = await engine.load(experts[3])
  expect([a.evicted, b.evicted, c.evicted, d.evicted]).toEqual([false, false, true, false])
  expect(engine.experts.stats()).toMatchObject({ residents: 3, evictions: 1, uploads: 4 })
  expect(await engine.weights.checksum()).toBe(active)
  expect(engine.experts.find(c.rootHash)).toBeUndefined()
  expect(() => c.retain()).toThrow(/load it again/)
  expect(() => c.release()).toThrow(expect.objectContaining({ tag: 'released' }))
  await expect(engine.switcher.apply([{ expert: c, weight: 1 }])).rejects.toMatchObject({ tag: 'released' })
  // Experts that moved in the arena still work, forwards and back.
  await engine.switcher.apply([
    { expert: d, weight: 1 },
    { expert: b.retain(), weight: 1 },
  ])
  await engine.switcher.revert()
  expect(await engine.weights.checksum()).toBe(before)
})

test('an expert that does not fit beside those in use is refused', async () => {
  const [first, second] = [await expertOf(0.2), await expertOf(0.2)]
  engine = await engineFor(base, inputs, first.payload.length + 1000)
  const resident = await engine.load(first)
  await expect(engine.load(second)).rejects.toMatchObject({ tag: 'memory' })
  resident.release()
  await engine.load(second)
  expect(resident.evicted).toBe(true)
})

test('an upload that is cancelled or incomplete leaves nothing', async () => {
  engine = await engineFor(base, inputs)
  const expert = await expertOf(0.2)
  const upload = await engine.experts.begin(expert.head)
  upload.write(0, expert.payload.subarray(0, 64))
  await expect(upload.finish()).rejects.toMatchObject({ tag: 'input' })
  // As many bytes as the payload has, but not all of it.
  const twice = await engine.experts.begin(expert.head)
  const half = Math.ceil(expert.payload.length / 8) * 4
  for (const end of [half, expert.payload.length - half]) twice.write(0, expert.payload.subarray(0, end))
  await expect(twice.finish()).rejects.toMatchObject({ tag: 'input' })
  const other = await engine.experts.begin(expert.head)
  other.cancel()
  expect(engine.experts.stats()).toMatchObject({ residents: 0, bytes: 0, arenaBytes: 0 })
})

/** Changes a number in the table of a container. */
function alter(field: 'kept' | 'lengthMin' | 'm', tensor: number, by: number) {
  return ({ head }: Container) => {
    const entry = head.table.tensors[tensor] as TernaryTensor
    entry[field] += by
  }
}

/** Ways to make an expert wrong that hashes cannot detect, because its author made it so. */
const LIES: [string, (expert: Container) => void][] = [
  ['one more entry declared', alter('kept', 0, 1)],
  ['one entry less declared', alter('kept', 1, -1)],
  ['longer blocks', alter('lengthMin', 0, 1)],
  ['shorter blocks', alter('lengthMin', 2, -1)],
  ['another Golomb parameter', alter('m', 0, 4000)],
  ['a stream of zeros', ({ head, payload }) => payload.fill(0, head.table.tensors[1].offset + 16)],
  ['a stream of ones', ({ head, payload }) => payload.fill(0xff, head.table.tensors[0].offset)],
  [
    'huge block lengths',
    ({ head, payload }) =>
      payload.fill(0xff, head.table.tensors[0].offset, head.table.tensors[0].offset + 64),
  ],
]

test('files that lie are refused, and the rest is untouched', async () => {
  engine = await engineFor(base, inputs)
  const before = await engine.weights.checksum()
  const honest = await engine.load(await expertOf(0.05))
  for (const [what, lie] of LIES) {
    const expert = await expertOf(0.05)
    lie(expert)
    await expect(engine.load(expert), what).rejects.toMatchObject({ tag: 'format' })
    expect(engine.experts.stats(), what).toMatchObject({ residents: 1, bytes: honest.bytes })
  }
  await engine.switcher.apply([{ expert: honest, weight: 1 }])
  await engine.switcher.revert()
  expect(await engine.weights.checksum()).toBe(before)
})

test('streams with random bits flipped are refused or stay inside their tensor', async () => {
  engine = await engineFor(base, inputs)
  const before = await engine.weights.checksum()
  let refused = 0
  for (let i = 0; i < 40; i++) {
    const name = random.pick(['a', 'b'])
    const shape = SHAPES.find(([other]) => other === name)![1]
    const expert = await container('expert', [
      ternaryOf(name, shape, randomEntries(shape[0] * shape[1], 0.1, random), 0.01),
    ])
    for (let flip = 0; flip <= i % 3; flip++) {
      expert.payload[random.integer(0, expert.payload.length - 1)] ^= 1 << random.integer(0, 7)
    }
    const resident = await engine.load(expert).catch((error: unknown) => {
      expect(error).toMatchObject({ tag: 'format' })
      refused++
    })
    if (resident === undefined) continue
    const other = await engine.weights.read('c')
    await engine.switcher.apply([{ expert: resident, weight: 1 }])
    expect(new Uint8Array(await engine.weights.read('c'))).toEqual(new Uint8Array(other))
    await engine.switcher.revert()
    expect(await engine.weights.checksum()).toBe(before)
    resident.release()
  }
  expect(refused).toBeGreaterThan(10)
})
