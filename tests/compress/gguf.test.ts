import { describe, expect, test } from 'vitest'
import { isGguf, readGguf } from '../../src/compress/gguf.ts'
import { type GgufBlocks, type GgufFloats, readGgufWeights } from '../../src/compress/gguf_weights.ts'
import { isTritswapError } from '../../src/errors.ts'
import { nbitsReader } from '../../src/format/codecs/nbits_decode.ts'
import { fromHalf } from '../../src/format/float16.ts'
import { memorySource } from '../../src/source/memory.ts'
import { randomFrom, tagThrownBy } from '../format/samples.ts'
import { ggufBlocks, ggufFile } from './gguf_file.ts'

const random = randomFrom(7)
const floats = (length: number) => Float32Array.from({ length }, () => random() * 2 - 1)
const f32 = (values: Float32Array<ArrayBuffer>) => new Uint8Array(values.buffer)
const METADATA = {
  'general.architecture': 'llama',
  'tokenizer.ggml.tokens': ['a', 'b', 'c'.repeat(500)],
  'llama.attention.head_count': 2,
  'llama.attention.head_count_kv': 1,
}

async function valuesOf({ code, components, shape }: GgufBlocks): Promise<number[]> {
  const bytes = Object.fromEntries(
    await Promise.all(
      Object.entries(components).map(async ([name, source]) => [
        name,
        await source.read(0, (await source.size()) as number),
      ]),
    ),
  )
  const [rows, cols] = shape
  const read = nbitsReader(code, cols, bytes)
  return Array.from({ length: rows * cols }, (_, i) => read(Math.floor(i / cols), i % cols))
}

/** By ggml's definition of the blocks. */
function dequantized(type: 'Q4_0' | 'Q4_1' | 'Q8_0', bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const size = { Q4_0: 18, Q4_1: 20, Q8_0: 34 }[type]
  return Array.from({ length: bytes.length / size }, (_, block) => {
    const at = block * size
    const scale = fromHalf(view.getUint16(at, true))
    return Array.from({ length: 32 }, (_, i) => {
      if (type === 'Q8_0') return Math.fround(view.getInt8(at + 2 + i) * scale)
      const first = at + (type === 'Q4_1' ? 4 : 2)
      const q = i < 16 ? bytes[first + i] & 15 : bytes[first + i - 16] >>> 4
      if (type === 'Q4_0') return Math.fround((q - 8) * scale)
      return Math.fround(q * scale + fromHalf(view.getUint16(at + 2, true)))
    })
  }).flat()
}

test.each([
  ['Q4_0', 2],
  ['Q4_1', 3],
  ['Q8_0', 8],
] as const)('%s keeps every value to the bit', async (type, id) => {
  const bytes = ggufBlocks(type, floats(3 * 64))
  const file = ggufFile(METADATA, { 'blk.0.ffn_up.weight': { shape: [3, 64], type: id, bytes } })
  const weights = await readGgufWeights(memorySource(file))
  const found = weights.get('model.layers.0.mlp.up_proj.weight') as GgufBlocks
  expect(await valuesOf(found)).toEqual(dequantized(type, bytes))
})

test('floats stay, and bfloat16 is widened', async () => {
  const file = ggufFile(METADATA, {
    'output_norm.weight': { shape: [3], type: 0, bytes: f32(Float32Array.of(1.5, -0.1, 2)) },
    'token_embd.weight': { shape: [1, 2], type: 1, bytes: new Uint8Array([0, 0x3c, 0, 0xc0]) },
    'output.weight': { shape: [1, 2], type: 30, bytes: new Uint8Array([0x80, 0x3f, 0x20, 0xc0]) },
    'rope_freqs.weight': { shape: [1], type: 0, bytes: f32(Float32Array.of(1)) },
  })
  const weights = await readGgufWeights(memorySource(file))
  expect([...weights.keys()]).toEqual(['model.norm.weight', 'model.embed_tokens.weight', 'lm_head.weight'])
  const bytesOf = async (name: string) => {
    const { source, dtype } = weights.get(name) as GgufFloats
    return { dtype, bytes: (await source.read(0, (await source.size()) as number)).slice().buffer }
  }
  const norm = await bytesOf('model.norm.weight')
  expect([norm.dtype, ...new Float32Array(norm.bytes)]).toEqual(['float32', 1.5, Math.fround(-0.1), 2])
  expect((await bytesOf('model.embed_tokens.weight')).dtype).toBe('float16')
  expect([...new Float32Array((await bytesOf('lm_head.weight')).bytes)]).toEqual([1, -2.5])
})

test('rows of queries and keys are put back into the order of the checkpoint', async () => {
  // Two heads of 8 rows: llama.cpp has rows 0, 4, 1, 5, … of each.
  const interleaved = [0, 4, 1, 5, 2, 6, 3, 7]
  const rows = [...interleaved, ...interleaved.map((row) => row + 8)]
  const wide = (order: readonly number[]) => ({
    shape: [order.length, 2],
    type: 0,
    bytes: f32(Float32Array.from(order.flatMap((row) => [row, row + 0.5]))),
  })
  const file = ggufFile(METADATA, {
    'blk.3.attn_q.weight': wide(rows),
    'blk.3.attn_k.weight': wide(interleaved),
    'blk.3.attn_v.weight': wide([0, 1, 2]),
    'blk.3.attn_q.bias': { shape: [16], type: 0, bytes: f32(Float32Array.from(rows)) },
  })
  const weights = await readGgufWeights(memorySource(file))
  for (const [part, count] of [
    ['q', 16],
    ['k', 8],
    ['v', 3],
  ] as const) {
    const { source } = weights.get(`model.layers.3.self_attn.${part}_proj.weight`) as GgufFloats
    const values = new Float32Array((await source.read(0, count * 8)).slice().buffer)
    expect([...values], part).toEqual(Array.from({ length: count }, (_, row) => [row, row + 0.5]).flat())
  }
  const { source } = weights.get('model.layers.3.self_attn.q_proj.bias') as GgufFloats
  expect([...new Float32Array((await source.read(0, 64)).slice().buffer)]).toEqual([...Array(16).keys()])
})

describe('a file that is not sound', () => {
  const norm = { shape: [4], type: 0, bytes: f32(floats(4)) }
  const sound = ggufFile(METADATA, { 'output_norm.weight': norm })
  const tagOf = (bytes: Uint8Array) => tagThrownBy(() => readGgufWeights(memorySource(bytes)))

  test.each([
    ['another architecture', ggufFile({ 'general.architecture': 'mamba' }, {}), 'unsupported'],
    ['a name of Object', ggufFile({ 'general.architecture': 'constructor' }, {}), 'unsupported'],
    [
      'k-quants',
      ggufFile(METADATA, { a: { shape: [256], type: 12, bytes: new Uint8Array(144) } }),
      'unsupported',
    ],
    [
      'rows that are no whole blocks',
      ggufFile(METADATA, { a: { shape: [2, 16], type: 8, bytes: new Uint8Array(34) } }),
      'format',
    ],
    [
      'heads that do not divide the rows',
      ggufFile(METADATA, { 'blk.0.attn_q.weight': { ...norm, shape: [3] } }),
      'format',
    ],
    ['an alignment of 3', ggufFile({ ...METADATA, 'general.alignment': 3 }, {}), 'format'],
    ['an empty file', new Uint8Array(), 'format'],
    [
      'a tensor that is too large',
      ggufFile(METADATA, { a: { ...norm, shape: [2 ** 20, 2 ** 20] } }),
      'format',
    ],
  ])('%s: %s', async (_, bytes, tag) => expect(await tagOf(bytes)).toBe(tag))

  test('cut anywhere before its padding, it is refused', async () => {
    for (let length = 0; length < sound.length - 16; length += 3) {
      const tag = await tagOf(sound.subarray(0, length))
      expect(['format', 'limit'], `${length} bytes`).toContain(tag)
    }
  })

  test('with bytes changed, it ends in a result or in an error of ours', async () => {
    for (let i = 0; i < 1500; i++) {
      const bytes = sound.slice()
      for (let n = 0; n < 3; n++) {
        const value = random() < 0.5 ? 255 : Math.floor(random() * 256)
        bytes[Math.floor(random() * bytes.length)] = value
      }
      try {
        await readGgufWeights(memorySource(bytes))
      } catch (error) {
        if (!isTritswapError(error)) throw error
      }
    }
  })

  test('promises cost nothing: counts are compared with what is left', async () => {
    const bytes = sound.slice()
    new DataView(bytes.buffer).setBigUint64(8, 2n ** 63n, true)
    const reads: number[] = []
    const source = memorySource(bytes)
    const counted = {
      ...source,
      read: (offset: number, length: number) => {
        reads.push(length)
        return source.read(offset, length)
      },
    }
    expect(await tagThrownBy(() => readGguf(counted, () => true))).toBe('format')
    expect(Math.max(...reads)).toBeLessThanOrEqual(bytes.length)
  })

  test('is told apart by its first bytes', async () => {
    expect(await isGguf(memorySource(sound))).toBe(true)
    expect(await isGguf(memorySource(new Uint8Array(2)))).toBe(false)
  })
})
