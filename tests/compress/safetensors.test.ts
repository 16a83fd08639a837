import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readFloats, readSafetensors } from '../../src/compress/safetensors.ts'
import { isTritswapError } from '../../src/errors.ts'
import { memorySource } from '../../src/source/memory.ts'
import { memoryFolder, safetensors } from './checkpoints.ts'

/** A file with this header text and `data` bytes behind it. */
function withHeader(header: string, data = 0, declared?: number): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + text.length + data)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(declared ?? text.length), true)
  bytes.set(text, 8)
  return bytes
}

const tensor = (dtype: string, shape: unknown, range: unknown) =>
  JSON.stringify({ w: { dtype, shape, data_offsets: range } })
const read = (bytes: Uint8Array<ArrayBuffer>) => readSafetensors(memorySource(bytes, 'x.safetensors'))

describe('safetensors', () => {
  test('reads what is written, whole and in slices', async () => {
    const values = [1, -2, 0.5, 65504, 0, -0.000061]
    const { tensors, metadata } = await read(
      safetensors(
        {
          a: { shape: [2, 3], values },
          h: { shape: [6], values, dtype: 'F16' },
          s: { shape: [], values: [7] },
        },
        { format: 'pt' },
      ),
    )
    expect(tensors.map(({ name, shape }) => [name, shape])).toEqual([
      ['a', [2, 3]],
      ['h', [6]],
      ['s', []],
    ])
    expect(metadata).toEqual({ format: 'pt' })
    expect(Array.from(await readFloats(tensors[0], 1, 3))).toEqual([-2, 0.5, 65504])
    expect((await readFloats(tensors[1]))[5]).toBeCloseTo(-0.000061, 7)
    expect(Array.from(await readFloats(tensors[2]))).toEqual([7])
  })

  test('reads BF16 and F64', async () => {
    const bytes = withHeader(
      '{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"d":{"dtype":"F64","shape":[1],"data_offsets":[4,12]}}',
      12,
    )
    const view = new DataView(bytes.buffer, bytes.length - 12)
    view.setUint16(0, 0x3fc0, true)
    view.setUint16(2, 0xc000, true)
    view.setFloat64(4, 0.1, true)
    const { tensors } = await read(bytes)
    expect(Array.from(await readFloats(tensors[0]))).toEqual([1.5, -2])
    expect(Array.from(await readFloats(tensors[1]))).toEqual([Math.fround(0.1)])
  })

  test.each([
    ['nothing', new Uint8Array(0)],
    ['a header over the end', withHeader('{}', 0, 1000)],
    ['a header of 2^63 bytes', withHeader('{}', 0, 2 ** 63)],
    ['no JSON', withHeader('{"w":')],
    ['a list', withHeader('[]')],
    ['a null tensor', withHeader('{"w":null}')],
    ['an unknown dtype', withHeader(tensor('F4', [1], [0, 1]), 1)],
    ['a dtype from the prototype', withHeader(tensor('toString', [1], [0, 1]), 1)],
    ['a negative size', withHeader(tensor('F32', [-1], [0, 4]), 4)],
    ['a fractional size', withHeader(tensor('F32', [0.5], [0, 2]), 2)],
    ['sizes over 2^53', withHeader(tensor('F32', [2 ** 40, 2 ** 40], [0, 4]), 4)],
    ['too many dimensions', withHeader(tensor('F32', Array(20).fill(1), [0, 4]), 4)],
    ['offsets in reverse', withHeader(tensor('F32', [1], [4, 0]), 4)],
    ['offsets past the end', withHeader(tensor('F32', [2], [0, 8]), 4)],
    ['a gap', withHeader(tensor('F32', [1], [4, 8]), 8)],
    ['bytes after the last tensor', withHeader(tensor('F32', [1], [0, 4]), 9)],
    ['a size that does not fit', withHeader(tensor('F32', [3], [0, 4]), 4)],
    [
      'an overlap',
      withHeader(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
    ],
  ])('refuses %s', async (_, bytes) => {
    await expect(read(bytes)).rejects.toMatchObject({ tag: 'format', message: /^Cannot read x\.safetensors/ })
  })

  test('gives a typed error or tensors inside the file for any mutation', async () => {
    const good = safetensors({
      a: { shape: [3, 5], values: new Float32Array(15) },
      b: { shape: [2], values: [1, 2] },
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.oneof(fc.constant(good.length), fc.nat(good.length)),
        async (changes, end) => {
          const bytes = good.slice(0, end)
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          try {
            const { tensors } = await read(bytes)
            for (const { offset, bytes: size } of tensors)
              expect(offset + size).toBeLessThanOrEqual(bytes.length)
          } catch (error) {
            if (!isTritswapError(error)) throw error
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('checkpoints', () => {
  const a = safetensors({ a: { shape: [2], values: [1, 2] } })
  const b = safetensors({ b: { shape: [1], values: [3] } })
  const index = (map: Record<string, unknown>) => ({ weight_map: map })

  test('joins shards in order of file name', async () => {
    const { tensors } = await openCheckpoint(
      memoryFolder({
        'model.safetensors.index.json': index({ b: 'model-2.safetensors', a: 'model-1.safetensors' }),
        'model-2.safetensors': b,
        'model-1.safetensors': a,
      }),
    )
    expect([...tensors.keys()]).toEqual(['a', 'b'])
    expect(Array.from(await readFloats(tensors.get('b')!))).toEqual([3])
  })

  test.each([
    ['a missing shard', { a: 'model-1.safetensors', b: 'model-9.safetensors' }, /model-9\.safetensors/],
    ['a path out of the folder', { a: '../secret.safetensors' }, /\.\.\/secret/],
    ['a tensor that no shard has', { a: 'model-1.safetensors', z: 'model-1.safetensors' }, /tensor z/],
    ['something that is no name', { a: 7 }, /names 7/],
  ])('refuses an index with %s', async (_, map, message) => {
    const folder = memoryFolder({ 'model.safetensors.index.json': index(map), 'model-1.safetensors': a })
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ tag: 'format', message })
  })

  test('refuses a tensor that two shards have', async () => {
    const folder = memoryFolder({
      'model.safetensors.index.json': index({ a: 'model-1.safetensors', b: 'model-2.safetensors' }),
      'model-1.safetensors': a,
      'model-2.safetensors': a,
    })
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      tag: 'format',
      message: /in two of its files/,
    })
  })

  test('refuses pickles, saying why and what to do', async () => {
    const refusal = { tag: 'unsupported', message: /pickle.*executes.*safetensors/ }
    await expect(openCheckpoint(memoryFolder({ 'pytorch_model.bin': a }))).rejects.toMatchObject(refusal)
    await expect(openCheckpoint(memorySource(a, 'model.pt'))).rejects.toMatchObject(refusal)
  })

  test('refuses a folder with nothing in it, and one with several files and no index', async () => {
    await expect(openCheckpoint(memoryFolder({}))).rejects.toMatchObject({ tag: 'input' })
    const folder = memoryFolder({ 'x.safetensors': a, 'y.safetensors': b })
    await expect(openCheckpoint(folder)).rejects.toMatchObject({
      tag: 'input',
      message: /2 safetensors files/,
    })
  })
})
