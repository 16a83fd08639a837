import { expect, test } from 'vitest'
import { halvesToFloats } from '../../src/format/float16.ts'
import { readBuffer } from '../../src/gpu/batch.ts'
import { Unpacker } from '../../src/gpu/index.ts'
import { container, deltaOf, denseOf, engineFor, placementOf, ternaryOf } from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

const random = new Random(5)
const shape = [37, 100]
const base = await container('base', [denseOf('w', shape, random.floats(3700), 'f16')])
const input = { name: 'w', dtype: 'float32', dims: shape, parts: [placementOf('w', shape, 'rows')] } as const

test('a ternary delta becomes 2-bit weights that MatMulNBits reads as −1, 0 and 1, in either order, or floats', async () => {
  const engine = await engineFor(base, [input])
  const expert = await container('expert', [ternaryOf('w', shape, randomEntries(3700, 0.2, random), 0.25)])
  const resident = await engine.load(expert)
  const unpacker = await Unpacker.create(engine)
  const part = { expert: resident, index: 0, offset: 0, rowStride: 128, colStride: 1 }
  const transposed = { ...part, offset: 1, rowStride: 1, colStride: 64 }
  const floats = { kind: 'floats', dtype: 'float16', count: 3700, from: 1 } as const
  const [codes, columns, halves, values] = await unpacker.unpack([
    { kind: 'codes', fields: 37 * 128, parts: [part] },
    { kind: 'codes', fields: 100 * 64, parts: [transposed] },
    { ...floats, parts: [2, -3].map((weight) => ({ ...part, rowStride: 100, weight })) },
    { kind: 'values', dtype: 'float16', values: [1, -2, 0.5] },
  ])
  const read = (buffer: GPUBuffer) => readBuffer(engine.gpu, buffer, 0, buffer.size)
  const delta = deltaOf(expert, 'w')
  const fieldsOf = async (buffer: GPUBuffer) => {
    const bytes = new Uint8Array(await read(buffer))
    return (field: number) => ((bytes[field >> 2] >> (2 * (field & 3))) & 3) - 2
  }
  const field = await fieldsOf(codes)
  const found = Array.from({ length: 37 * 128 }, (_, i) => field(i) * 0.25 + 0)
  const wanted = Array.from({ length: 37 * 128 }, (_, i) =>
    i % 128 < 100 ? delta[Math.floor(i / 128) * 100 + (i % 128)] : 0,
  )
  expect(found).toEqual(wanted)
  const column = await fieldsOf(columns)
  expect(Array.from(delta, (_, i) => column((i % 100) * 64 + 1 + Math.floor(i / 100)) * 0.25 + 0)).toEqual([
    ...delta,
  ])
  expect([...halvesToFloats(new Uint16Array(await read(halves), 0, 3700))]).toEqual(
    Array.from(delta, (value) => 1 - value),
  )
  expect([...halvesToFloats(new Uint16Array(await read(values), 0, 3))]).toEqual([1, -2, 0.5])
  for (const made of [codes, columns, halves, values]) made.destroy()

  const mixed = await engine.load(
    await container('expert', [denseOf('w', shape, random.floats(3700), 'f16')]),
  )
  const dense = { ...part, expert: mixed }
  await expect(unpacker.unpack([{ kind: 'codes', fields: 37 * 128, parts: [dense] }])).rejects.toMatchObject({
    tag: 'unsupported',
  })
  engine.destroy()
})
