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

test('a ternary delta becomes 2-bit weights that MatMulNBits reads as −1, 0 and 1', async () => {
  const engine = await engineFor(base, [input])
  const expert = await container('expert', [ternaryOf('w', shape, randomEntries(3700, 0.2, random), 0.25)])
  const resident = await engine.load(expert)
  const unpacker = await Unpacker.create(engine)
  const [{ buffer, dims, scale }] = await unpacker.side(resident, 32)
  expect(dims).toEqual([37, 4, 8])
  const bytes = new Uint8Array(await readBuffer(engine.gpu, buffer, 0, buffer.size))
  const delta = deltaOf(expert, 'w')
  const found = Array.from(
    { length: 37 * 128 },
    (_, i) => (((bytes[i >> 2] >> (2 * (i & 3))) & 3) - 2) * scale,
  )
  const wanted = Array.from({ length: 37 * 128 }, (_, i) =>
    i % 128 < 100 ? delta[Math.floor(i / 128) * 100 + (i % 128)] : 0,
  )
  expect(found.map((value) => value + 0)).toEqual(wanted)

  const dense = await unpacker.dense(resident, 0, 'float16', 2)
  const halves = new Uint16Array(await readBuffer(engine.gpu, dense, 0, dense.size), 0, 3700)
  expect([...halvesToFloats(halves)]).toEqual(Array.from(delta, (value) => value * 2))

  const ones = await unpacker.ones(100, 'float16')
  const read = new Uint16Array(await readBuffer(engine.gpu, ones, 0, ones.size), 0, 100)
  expect(new Set(read)).toEqual(new Set([0x3c00]))
  for (const made of [buffer, dense, ones]) made.destroy()

  const mixed = await engine.load(
    await container('expert', [denseOf('w', shape, random.floats(3700), 'f16')]),
  )
  await expect(unpacker.side(mixed, 32)).rejects.toMatchObject({ tag: 'unsupported' })
  engine.destroy()
})
