import { afterEach, describe, expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { floatsToHalves, toHalf } from '../../src/format/float16.ts'
import { blocksLayout, compareSketch, sketchOf } from '../../src/format/index.ts'
import { WeightStore } from '../../src/gpu/index.ts'
import { blocksOf, container, deltaOf, denseOf, testGpu } from './fixtures.ts'
import { Random } from './random.ts'
import { checksum } from './twins/checksum.ts'

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
    await writeShuffled(base.payload)
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

/** Payload in pieces of random lengths, in random order. */
async function writeShuffled(payload: Uint8Array<ArrayBuffer>) {
  const pieces: [number, number][] = []
  for (let at = 0; at < payload.length; ) {
    const length = Math.min(4 * random.integer(1, 300), payload.length - at)
    pieces.push([at, length])
    at += length
  }
  for (const [at, length] of pieces.sort(() => random.unit() - 0.5))
    await store.write(at, payload.slice(at, at + length))
}

describe('quantized tensors', () => {
  const COLS = 100
  const code = { bits: 4, blockSize: 32, dtype: 'f32' } as const
  /** q and k share an input; t is [in, out] in its checkpoint. */
  const sections = [
    blocksOf('q', [48, COLS], { ...code, zeroPoints: 'packed' }, random),
    blocksOf('k', [16, COLS], { ...code, zeroPoints: 'packed' }, random),
    blocksOf('plain', [33, COLS], code, random),
    blocksOf('half', [7, COLS], { bits: 8, blockSize: 16, dtype: 'f16', zeroPoints: 'float' }, random),
    blocksOf('minimum', [9, COLS], { bits: 4, blockSize: 32, dtype: 'f16', minimums: true }, random),
    blocksOf('t', [COLS, 20], { bits: 2, blockSize: 64, dtype: 'f32', transposed: true }, random),
    denseOf('norm', [33], random.floats(33), 'f32'),
  ]

  test.each(['float32', 'float16'] as const)(
    'become %s weights, whatever the order of bytes',
    async (dtype) => {
      const quantized = await container('base', sections)
      const transposed = (tensor: string, offset: number, pitch: number) => ({
        tensor,
        offset,
        rowStride: 1,
        colStride: pitch,
      })
      const hoisted: HoistedInput[] = [
        { name: 'qk', dtype, dims: [COLS, 64], parts: [transposed('q', 0, 64), transposed('k', 48, 64)] },
        { name: 'plain', dtype, dims: [COLS, 33], parts: [transposed('plain', 0, 33)] },
        {
          name: 'plain.rows',
          dtype,
          dims: [33, COLS],
          parts: [{ tensor: 'plain', offset: 0, rowStride: COLS, colStride: 1 }],
        },
        { name: 'half', dtype, dims: [COLS, 7], parts: [transposed('half', 0, 7)] },
        { name: 'minimum', dtype, dims: [COLS, 9], parts: [transposed('minimum', 0, 9)] },
        {
          name: 't',
          dtype,
          dims: [COLS, 20],
          parts: [{ tensor: 't', offset: 0, rowStride: 20, colStride: 1 }],
        },
      ]
      store = await WeightStore.create({ gpu: await testGpu(), inputs: hoisted, table: quantized.head.table })
      await writeShuffled(quantized.payload)
      for (const { name, dims, parts } of hoisted) {
        const wanted = new Float32Array(dims[0] * dims[1])
        for (const { tensor, offset, rowStride, colStride } of parts) {
          const cols = tensor === 't' ? 20 : COLS
          for (const [flat, value] of deltaOf(quantized, tensor).entries())
            wanted[offset + Math.floor(flat / cols) * rowStride + (flat % cols) * colStride] = value
        }
        const stored = dtype === 'float32' ? wanted : floatsToHalves(wanted)
        expect(new Uint8Array(await store.read(name)), name).toEqual(new Uint8Array(stored.buffer))
      }
    },
  )

  test('stay as they are where an input wants them so, out of reach of a merge', async () => {
    const quantized = await container('base', sections)
    const { tensors } = quantized.head.table
    const raw = (
      name: string,
      dtype: HoistedInput['dtype'],
      component: NonNullable<HoistedInput['raw']>,
      ...names: string[]
    ): HoistedInput => {
      let offset = 0
      const parts = names.map((tensor) => {
        const entry = tensors.find((candidate) => candidate.name === tensor)
        if (entry?.codec !== 'blocks') throw new Error(`${tensor} is not quantized`)
        const { rows, components } = blocksLayout(entry.shape, entry)
        const { rowLength } = components[component]!
        offset += rows * rowLength
        return { tensor, offset: offset - rows * rowLength, rowStride: rowLength, colStride: 1 }
      })
      return { name, dtype, dims: [offset], raw: component, parts }
    }
    const hoisted = [
      raw('qk_Q4', 'uint8', 'weights', 'q', 'k'),
      raw('qk_scales', 'float32', 'scales', 'q', 'k'),
      raw('qk_zp', 'uint8', 'zeroPoints', 'q', 'k'),
      raw('half_Q8', 'uint8', 'weights', 'half'),
      raw('half_scales', 'float16', 'scales', 'half'),
      raw('half_zp', 'float16', 'zeroPoints', 'half'),
      raw('minimum_Q4', 'uint8', 'weights', 'minimum'),
      raw('minimum_scales', 'float16', 'scales', 'minimum'),
      raw('minimum_mins', 'float16', 'minimums', 'minimum'),
      raw('t_Q2', 'uint8', 'weights', 't'),
      raw('t_scales', 'float32', 'scales', 't'),
    ]
    store = await WeightStore.create({ gpu: await testGpu(), inputs: hoisted, table: quantized.head.table })
    await writeShuffled(quantized.payload)
    for (const { name, raw: component, parts } of hoisted) {
      const bytes = parts.flatMap(({ tensor }) => {
        const entry = tensors.find((candidate) => candidate.name === tensor)!
        if (entry.codec !== 'blocks') return []
        const { offset, bytes } = blocksLayout(entry.shape, entry).components[component!]!
        return [...quantized.payload.slice(entry.offset + offset, entry.offset + offset + bytes)]
      })
      expect([...new Uint8Array(await store.read(name))], name).toEqual(bytes)
    }
    expect(store.isQuantized('q')).toBe(true)
    expect(store.shapeOf('q')).toEqual([48, COLS])
    expect(() => store.placementsOf('q')).toThrow(/quantized there/)
    const names = ['q', 'k', 'half', 'minimum', 't']
    const sketch = names.flatMap((name) => [...sketchOf(name, deltaOf(quantized, name))])
    expect(Array.from(await store.sketchValues(names), toHalf)).toEqual(sketch)
  })
})

test('a tied tensor that is quantized on one side has two roundings, each with a sketch of its own', async () => {
  const shape = [20, 48]
  const code = { bits: 4, blockSize: 16, dtype: 'f32' } as const
  const tied = await container('base', [
    denseOf('embed', shape, random.floats(960), 'f32'),
    blocksOf('embed@head', shape, code, random, { target: 'embed' }),
  ])
  const embed: HoistedInput = {
    name: 'embed',
    dtype: 'float32',
    dims: shape,
    parts: [{ tensor: 'embed', offset: 0, rowStride: 48, colStride: 1 }],
  }
  const transposed = { tensor: 'embed@head', offset: 0, rowStride: 1, colStride: 20 }
  const head: HoistedInput = { name: 'head', dtype: 'float32', dims: [48, 20], parts: [transposed] }
  const raw = (
    name: string,
    dtype: HoistedInput['dtype'],
    component: 'weights' | 'scales',
    length: number,
  ) => ({
    ...{ name, dtype, dims: [20 * length], raw: component },
    parts: [{ tensor: 'embed@head', offset: 0, rowStride: length, colStride: 1 }],
  })
  const names = ['embed', 'embed@head']
  const sketch = names.flatMap((name) => [...sketchOf(name, deltaOf(tied, name))])
  const kept = [raw('head_Q4', 'uint8', 'weights', 24), raw('head_scales', 'float32', 'scales', 3)]
  for (const inputs of [
    [embed, head],
    [embed, ...kept],
  ]) {
    store?.destroy()
    store = await WeightStore.create({ gpu: await testGpu(), inputs, table: tied.head.table })
    await store.write(0, tied.payload)
    expect(Array.from(await store.sketchValues(names), toHalf)).toEqual(sketch)
    // A merge is refused where it would reach one side only.
    if (inputs.length === 2) expect(store.placementsOf('embed')).toHaveLength(2)
    else expect(() => store.placementsOf('embed')).toThrow(/quantized there/)
  }
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
