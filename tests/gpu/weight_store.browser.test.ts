import { afterEach, expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { floatsToHalves, toHalf } from '../../src/format/float16.ts'
import { compareSketch, sketchOf } from '../../src/format/index.ts'
import { WeightStore } from '../../src/gpu/index.ts'
import { checksum } from '../../src/gpu/reference/checksum.ts'
import { container, deltaOf, denseOf, testGpu } from './fixtures.ts'
import { Random } from './random.ts'

const random = new Random(11)
const base = await container('base', [
  denseOf('q', [48, 33], random.floats(48 * 33), 'f16'),
  denseOf('k', [16, 33], random.floats(16 * 33), 'f32'),
  denseOf('v', [16, 33], random.floats(16 * 33), 'f16'),
  denseOf('norm', [33], random.floats(33), 'f16'),
  denseOf('embed', [101, 33], random.floats(101 * 33), 'f16'),
])

/** q, k and v fused and transposed; the embedding twice: as it is, and transposed for the head. */
function inputs(dtype: 'float32' | 'float16'): HoistedInput[] {
  const third = (tensor: string, offset: number) => ({ tensor, offset, rowStride: 1, colStride: 80 })
  return [
    { name: 'qkv', dtype, dims: [33, 80], parts: [third('q', 0), third('k', 48), third('v', 64)] },
    { name: 'norm', dtype, dims: [33], parts: [{ tensor: 'norm', offset: 0, rowStride: 33, colStride: 1 }] },
    {
      name: 'embed',
      dtype,
      dims: [101, 33],
      parts: [{ tensor: 'embed', offset: 0, rowStride: 33, colStride: 1 }],
    },
    {
      name: 'head',
      dtype: 'float32',
      dims: [33, 101],
      parts: [{ tensor: 'embed', offset: 0, rowStride: 1, colStride: 101 }],
    },
  ]
}

/** The content of an input by its placements. */
function expected({ dims, parts, dtype }: HoistedInput): ArrayBuffer {
  const values = new Float32Array(dims.reduce((a, b) => a * b))
  for (const { tensor, offset, rowStride, colStride } of parts) {
    for (const [flat, value] of deltaOf(base, tensor).entries()) {
      values[offset + Math.floor(flat / 33) * rowStride + (flat % 33) * colStride] = value
    }
  }
  return dtype === 'float32' ? values.buffer : floatsToHalves(values).buffer
}

let store: WeightStore
afterEach(() => store?.destroy())

test.each(['float32', 'float16'] as const)(
  'payload in any order and any pieces fills %s inputs',
  async (dtype) => {
    const hoisted = inputs(dtype)
    store = await WeightStore.create({ gpu: await testGpu(), inputs: hoisted, table: base.head.table })
    const pieces: [number, number][] = []
    for (let at = 0; at < base.payload.length; ) {
      const length = Math.min(4 * random.integer(1, 300), base.payload.length - at)
      pieces.push([at, length])
      at += length
    }
    for (const [at, length] of pieces.sort(() => random.unit() - 0.5))
      await store.write(at, base.payload.slice(at, at + length))
    for (const input of hoisted) {
      expect(new Uint8Array(await store.read(input.name))).toEqual(new Uint8Array(expected(input)))
    }
    expect(store.feeds().map(({ buffer }) => buffer.size % 16)).toEqual([0, 0, 0, 0])
    expect(store.placementsOf('embed').map(({ input }) => input)).toEqual(['embed', 'head'])
    expect(() => store.placementsOf('other')).toThrow(/feeds no input/)
  },
)

test('a sketch of the weights in VRAM recognises their tensors', async () => {
  store = await WeightStore.create({
    gpu: await testGpu(),
    inputs: inputs('float16'),
    table: base.head.table,
  })
  await store.write(0, base.payload)
  const names = ['embed', 'q', 'norm']
  const found = await store.sketchValues(names)
  const sketch = Uint16Array.from(names.flatMap((name) => [...sketchOf(name, deltaOf(base, name))]))
  expect(Array.from(found, toHalf)).toEqual([...sketch])
  expect(compareSketch(sketch, found, 'f16').same).toBe(true)
})

test('the checksum sees every bit and every order, and is what its twin says', async () => {
  const hoisted = inputs('float32')
  store = await WeightStore.create({ gpu: await testGpu(), inputs: hoisted, table: base.head.table })
  await store.write(0, base.payload)
  const before = await store.checksum()
  const sums = new Uint32Array(2)
  for (const [seed, { name }] of hoisted.entries()) {
    const [{ buffer }] = store.feeds().filter((feed) => feed.name === name)
    const words = new Uint32Array(buffer.size / 4)
    words.set(new Uint32Array(await store.read(name)))
    checksum(words, seed, sums)
  }
  expect(before).toBe(Array.from(sums, (sum) => sum.toString(16).padStart(8, '0')).join(''))
  const seen = new Set([before])
  const { queue } = (await testGpu()).device
  const [{ buffer }] = store.feeds()
  const words = new Uint32Array(await store.read('qkv'))
  for (const bit of [0, 7, 15, 31]) {
    const at = random.integer(0, words.length - 1)
    queue.writeBuffer(buffer, at * 4, Uint32Array.of(words[at] ^ (1 << bit)))
    seen.add(await store.checksum())
    queue.writeBuffer(buffer, at * 4, Uint32Array.of(words[at]))
  }
  queue.writeBuffer(buffer, 0, Uint32Array.of(words[1], words[0]))
  seen.add(await store.checksum())
  queue.writeBuffer(buffer, 0, words)
  expect(seen.size).toBe(6)
  expect(await store.checksum()).toBe(before)
})

test('bindings that leave their buffer or name no tensor are refused', async () => {
  const gpu = await testGpu()
  const [qkv] = inputs('float32')
  const wide = { ...qkv, dims: [33, 79] }
  const stranger = { ...qkv, parts: [{ ...qkv.parts[0], tensor: 'stranger' }] }
  const create = (input: HoistedInput) => WeightStore.create({ gpu, inputs: [input], table: base.head.table })
  await expect(create(wide)).rejects.toMatchObject({ tag: 'format' })
  await expect(create(stranger)).rejects.toMatchObject({ tag: 'mapping' })
})
