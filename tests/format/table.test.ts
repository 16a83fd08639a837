import { describe, expect, test } from 'vitest'
import { tableFromJson } from '../../src/format/index.ts'
import { tableToJson } from '../../src/format/table.ts'
import { tagThrownBy } from './samples.ts'

const TERNARY = {
  name: 'w',
  shape: [64, 64],
  kept: 100,
  scale: 0.5,
  m: 28,
  lengthMin: 700,
  lengthBits: 0,
  bytes: 88,
}
const DENSE = { name: 'b', shape: [3], codec: 'dense', dtype: 'f16', bytes: 8 }

type Json = Record<string, unknown>
const read = (changes: Json = {}, tensors: Json[] = [TERNARY, DENSE], payload?: number) =>
  tableFromJson(
    JSON.stringify({ kind: 'expert', tensors, ...changes }),
    payload ?? tensors.reduce((sum, { bytes }) => sum + Number(bytes), 0),
  )
const refusal = (...args: Parameters<typeof read>) => tagThrownBy(() => read(...args))

describe('a table', () => {
  test('has defaults for what is not said', () => {
    expect(read()).toMatchObject({ kind: 'expert', method: 'full', base: {}, compression: {}, sources: [] })
    expect(read().tensors).toMatchObject([
      { name: 'w', role: 'delta', target: 'w', codec: 'ternary', offset: 0 },
      { name: 'b', role: 'delta', target: 'b', codec: 'dense', offset: 88 },
    ])
  })

  test('has what its skill reads and how it writes, and no other settings', () => {
    const generation = { temperature: 0.5, stop: ['###'], future: 1 }
    const table = read({ system: 'Answer in SQL.', generation })
    expect(table.system).toBe('Answer in SQL.')
    expect(JSON.parse(JSON.stringify(table.generation))).toEqual({ temperature: 0.5, stop: ['###'] })
  })

  test('of activated LoRA says what it acts from, by a method that readers of 0.1.0 refuse', () => {
    const table = read({ method: 'alora', invocation: [7, 0, 2 ** 31 - 1] })
    expect(table).toMatchObject({ method: 'lora', invocation: [7, 0, 2 ** 31 - 1] })
    expect(JSON.parse(tableToJson(table)).method).toBe('alora')
    expect(read({ method: 'lora', invocation: [7] }).invocation).toBeUndefined()
  })

  test('may have fields that this version does not know', () => {
    expect(read({ future: { x: 1 } }, [{ ...TERNARY, future: true }, DENSE]).tensors).toHaveLength(2)
  })

  test.each<[string, Json]>([
    ['another kind', { kind: 'model' }],
    ['another method', { method: 'dora' }],
    ['a label that is no text', { label: 7 }],
    ['a fingerprint in capitals', { base: { fingerprint: 'A'.repeat(64) } }],
    ['a sketch of the wrong length', { base: { sketch: 'AAAA' } }],
    ['a sketch that is not base64', { base: { sketch: '!'.repeat(44) } }],
    ['a density that is no number', { compression: { density: '0.05' } }],
    ['a system text that is none', { system: ['Be brief.'] }],
    ['settings that are a list', { generation: [] }],
    ['a temperature that is a text', { generation: { temperature: '1' } }],
    ['probabilities over 1', { generation: { topP: 1.5 } }],
    ['half a token', { generation: { topK: 0.5 } }],
    ['an empty stop string', { generation: { stop: [''] } }],
    ['hundred stop strings', { generation: { stop: Array(100).fill('x') } }],
    ['an activated LoRA without an invocation', { method: 'alora' }],
    ['an empty invocation', { method: 'alora', invocation: [] }],
    ['an invocation that is a text', { method: 'alora', invocation: 'go' }],
    ['half a token to act from', { method: 'alora', invocation: [1.5] }],
    ['a token below 0', { method: 'alora', invocation: [-1] }],
    ['sources that are no list', { sources: {} }],
    ['tensors that are no list', { tensors: {} }],
    ['a base that is a list', { base: [] }],
  ])('with %s is refused', async (_, change) => {
    expect(await refusal(change)).toBe('format')
  })

  test.each<[string, Json]>([
    ['a long text', { description: 'x'.repeat(4097) }],
    ['a long invocation', { method: 'alora', invocation: Array(257).fill(1) }],
    ['many sources', { sources: Array.from({ length: 1025 }, () => ({ name: 's' })) }],
  ])('with %s is over a limit', async (_, change) => {
    expect(await refusal(change)).toBe('limit')
  })

  test('that is not JSON, or no object, is refused', async () => {
    for (const json of ['', '{', '[]', 'null', '7', '"{}"'])
      expect(await tagThrownBy(() => tableFromJson(json, 0))).toBe('format')
  })

  test('nested deeper than the stack is refused before it is parsed', async () => {
    const deep = `${'['.repeat(1e6)}${']'.repeat(1e6)}`
    for (const json of [deep, `{"kind":${deep}}`, `{"kind":"expert","tensors":${deep}}`]) {
      expect(await tagThrownBy(() => tableFromJson(json, 0))).toBe('limit')
    }
  })

  test('needs tensors, of different names, that fill the payload', async () => {
    expect(await refusal({}, [])).toBe('format')
    expect(await refusal({}, [DENSE, DENSE])).toBe('format')
    expect(await refusal({}, [DENSE], 12)).toBe('format')
    expect(await refusal({}, [DENSE], 4)).toBe('format')
    expect(await refusal({}, Array(65_537).fill(DENSE))).toBe('limit')
  })
})

describe('a tensor', () => {
  test.each<[string, Json]>([
    ['no name', { name: undefined }],
    ['another codec', { codec: 'rice' }],
    ['another role', { role: 'loraC' }],
    ['a size of 0', { shape: [64, 0] }],
    ['a size that is no whole number', { shape: [64, 64.5] }],
    ['no scale', { scale: undefined }],
    ['an infinite scale', { scale: 1e39 }],
    ['more entries than weights', { kept: 4097 }],
    ['more entries than bits', { kept: 118 }],
    ['a negative count', { kept: -1 }],
    ['Golomb parameter 0', { m: 0 }],
    ['Golomb parameter 4097', { m: 4097 }],
    ['lengths of 17 bits', { lengthBits: 17 }],
    ['a section shorter than its blocks', { bytes: 84 }],
    ['a section longer than its blocks', { bytes: 92 }],
    ['a section of half words', { bytes: 86 }],
    ['another layout', { layout: 'conv3d' }],
    ['a scaling that is no number', { scaling: '2' }],
  ])('with %s is refused', async (_, change) => {
    expect(await refusal({}, [{ ...TERNARY, ...change }])).toBe('format')
  })

  test.each<[string, Json]>([
    ['a long name', { name: 'n'.repeat(513) }],
    ['nine axes', { shape: Array(9).fill(1) }],
    ['more than 2^30 weights', { shape: [2 ** 16, 2 ** 15] }],
    ['a shape as long as the table', { shape: Array(100_000).fill(1) }],
  ])('with %s is over a limit', async (_, change) => {
    expect(await refusal({}, [{ ...TERNARY, ...change }])).toBe('limit')
  })

  test('whose bits would not be addressable is refused', async () => {
    const huge = {
      ...TERNARY,
      shape: [2 ** 15, 2 ** 15],
      kept: 0,
      lengthMin: 65_535,
      lengthBits: 0,
      bytes: 2 ** 31 - 2 ** 15,
    }
    expect(await refusal({}, [huge])).toBe('format')
  })

  test.each<[string, Json, string]>([
    ['as it should be', {}, 'none'],
    ['and packed zero points', { zeroPoints: 'packed', bytes: 256 + 64 + 8 }, 'none'],
    ['that is quantized the other way round', { shape: [100, 4], transposed: true }, 'none'],
    ['of 3 bits', { bits: 3 }, 'format'],
    ['of half a bit', { bits: 0.5 }, 'format'],
    ['in blocks of 24', { blockSize: 24 }, 'format'],
    ['in blocks of 0', { blockSize: 0 }, 'format'],
    ['with other zero points', { zeroPoints: 'int8' }, 'format'],
    ['without a type of scales', { dtype: undefined }, 'format'],
    ['with minimums beside zero points', { dtype: 'f16', zeroPoints: 'packed', minimums: true }, 'format'],
    ['with minimums and scales in f32', { minimums: true }, 'format'],
    ['with minimums that are not true', { dtype: 'f16', minimums: 1 }, 'format'],
    ['without room for its minimums', { dtype: 'f16', minimums: true, bytes: 256 + 32 }, 'format'],
    ['shorter than its components', { bytes: 256 }, 'format'],
    ['longer than its components', { bytes: 256 + 68 }, 'format'],
    ['whose padding is more than a tensor may have', { shape: [2 ** 15, 1], blockSize: 2 ** 16 }, 'limit'],
  ])('in blocks, %s: %s', async (_, change, tag) => {
    const blocks = {
      name: 'q',
      shape: [4, 100],
      codec: 'blocks',
      bits: 4,
      blockSize: 32,
      dtype: 'f32',
      bytes: 320,
    }
    expect(await refusal({ kind: 'base' }, [{ ...blocks, ...change }])).toBe(tag)
  })

  test('of an expert has no blocks', async () => {
    const blocks = {
      name: 'q',
      shape: [1, 16],
      codec: 'blocks',
      bits: 8,
      blockSize: 16,
      dtype: 'f32',
      bytes: 20,
    }
    expect(await refusal({}, [blocks])).toBe('format')
    expect(await refusal({ kind: 'base' }, [blocks])).toBe('none')
  })

  test('of a base is a dense delta', async () => {
    expect(await refusal({ kind: 'base' }, [DENSE])).toBe('none')
    expect(await refusal({ kind: 'base' }, [TERNARY])).toBe('format')
    expect(await refusal({ kind: 'base' }, [{ ...DENSE, role: 'loraA' }])).toBe('format')
  })
})
