import { describe, expect, test } from 'vitest'
import { decodeInPieces } from '../../src/format/codecs/index.ts'
import { keptIn, smallerPacking } from '../../src/format/codecs/terms_code.ts'
import {
  buildHead,
  decodeTerms,
  decodeValues,
  encodeTerms,
  parseHead,
  type TermsPacking,
  type TermsTensor,
} from '../../src/format/index.ts'
import { tableFromJson, tableToJson } from '../../src/format/table.ts'
import { PLAIN_TABLE, randomFrom } from './samples.ts'

const PACKINGS = ['trits', 'mask'] as const

function tensorOf(
  shape: readonly number[],
  terms: number,
  bytes: number,
  name = 'w',
  packing?: TermsPacking,
): TermsTensor {
  const common = { name, target: name, shape, role: 'delta', codec: 'terms' } as const
  return { ...common, terms, ...(packing && { packing }), bytes, offset: 0 }
}

/** Where `found` is not what `wanted` begins with. */
function firstDifference(found: ArrayLike<number>, wanted: ArrayLike<number>): number | undefined {
  for (let i = 0; i < found.length; i++) if (found[i] !== wanted[i]) return i
  return undefined
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')

describe('sections', () => {
  test('the example of FORMAT.md', () => {
    const terms = { scales: Float32Array.of(0.5), x: Int8Array.of(1, -1), y: Int8Array.of(0, 1, 1) }
    const section = encodeTerms([2, 3], terms)
    expect(hex(section)).toBe('00 00 00 3f 73 00 00 00')
    expect(decodeTerms(section, [2, 3], 1)).toEqual(terms)
    expect([...decodeValues(tensorOf([2, 3], 1, 8), section)]).toEqual([0, 0.5, 0.5, 0, -0.5, -0.5])
    const masked = encodeTerms([2, 3], terms, 'mask')
    expect(hex(masked)).toBe('00 00 00 3f 5b 00 00 00')
    expect(decodeTerms(masked, [2, 3], 1, 'mask')).toEqual(terms)
    expect([...decodeValues(tensorOf([2, 3], 1, 8, 'w', 'mask'), masked)]).toEqual([
      0, 0.5, 0.5, 0, -0.5, -0.5,
    ])
  })

  test.each(
    PACKINGS.flatMap((packing) =>
      (
        [
          [[7, 9], 3],
          [[5], 1],
          [[], 2],
          [[3, 2, 2, 2], 4],
          [[1, 2 ** 20 + 70], 1],
        ] as const
      ).map(([shape, count]) => [shape, count, packing] as const),
    ),
  )(
    'of shape [%s] with %i terms in %s are sums in f32 in the order of the terms',
    (shape, count, packing) => {
      const rows: number = shape.length > 1 ? shape[0]! : 1
      const cols = shape.reduce<number>((product, size) => product * size, 1) / rows
      const random = randomFrom(rows + cols)
      const entries = (length: number) => Int8Array.from({ length }, () => Math.floor(random() * 3) - 1)
      const scales = Float32Array.from({ length: count }, () => random() - 0.5)
      const terms = { scales, x: entries(count * rows), y: entries(count * cols) }
      const section = encodeTerms(shape, terms, packing)
      const back = decodeTerms(section, shape, count, packing)
      // Positions, not values: a million wrong ones would be printed for minutes.
      for (const part of ['scales', 'x', 'y'] as const)
        expect([part, firstDifference(back[part], terms[part])]).toEqual([part, undefined])
      const tensor = tensorOf(shape, count, section.length, 'w', packing)
      const values = decodeValues(tensor, section)
      const wanted = (row: number, col: number) => {
        let sum = 0
        for (let t = 0; t < count; t++)
          sum = Math.fround(sum + scales[t] * terms.x[t * rows + row] * terms.y[t * cols + col])
        return sum
      }
      const step = Math.max(1, Math.floor(cols / 100))
      for (let row = 0; row < rows; row++)
        for (let col = 0; col < cols; col += step) {
          const value = values[row * cols + col]
          if (value !== wanted(row, col))
            expect({ row, col, value }).toEqual({ row, col, value: wanted(row, col) })
        }
      const pieces = [...decodeInPieces(tensor, section)!]
      expect(pieces.every((piece) => piece.length <= 2 ** 20)).toBe(true)
      expect(pieces.flatMap((piece) => [...piece.subarray(0, 50)]).length).toBeGreaterThan(0)
      expect(pieces.reduce((sum, { length }) => sum + length, 0)).toBe(values.length)
      expect(firstDifference(pieces[0], values)).toBeUndefined()
    },
  )

  test.each([0.43, 0.5, 0.57, 0.58, 0.65, 0.8])(
    'where a fraction of %f is not 0, the smaller packing is the one that is chosen, and near the entropy',
    (k) => {
      const { x, y, scales } = full(2, 576, 1536)
      const thin = (entries: Int8Array) => entries.map((entry, i) => ((i * 37) % 100 < 100 * k ? entry : 0))
      const terms = { scales, x: thin(x), y: thin(y) }
      const [trits, mask] = PACKINGS.map((packing) => encodeTerms([576, 1536], terms, packing).length)
      const chosen = smallerPacking([576, 1536], 2, keptIn(terms.x) + keptIn(terms.y))
      // Trits only where they save more than the table spends on saying so.
      expect(chosen).toBe(mask <= trits + 32 ? 'mask' : 'trits')
      const entropy = -((1 - k) * Math.log2(1 - k) + k * Math.log2(k / 2))
      const bits = (8 * (Math.min(trits, mask) - 8)) / (2 * 2112)
      expect(bits / entropy).toBeLessThan(k < 0.575 ? 1.015 : k < 0.7 ? 1.05 : 1.12)
    },
  )

  test.each([
    ['longer', (bytes: Uint8Array<ArrayBuffer>) => Uint8Array.of(...bytes, 0, 0, 0, 0)],
    ['shorter', (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, -4)],
    ['shorter than its mask alone', (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, 12)],
  ])('a section that is %s than its mask says is refused', (_, change) => {
    const section = change(encodeTerms([20, 30], full(2, 20, 30), 'mask'))
    expect(() => decodeTerms(section, [20, 30], 2, 'mask')).toThrow(
      expect.objectContaining({ tag: 'format' }),
    )
  })

  test.each([
    ['a byte of more than five entries', (bytes: Uint8Array) => (bytes[4] = 243)],
    ['a scale that is NaN', (bytes: Uint8Array) => (bytes[3] = 0xff)],
    ['a scale that is infinite', (bytes: Uint8Array) => bytes.set([0, 0, 0x80, 0x7f])],
  ])('%s is refused, and the tensor is named', (_, spoil) => {
    const section = encodeTerms([2, 3], full(1, 2, 3))
    spoil(section)
    if (section[3] === 0xff) section[2] = 0xff
    expect(() => decodeValues(tensorOf([2, 3], 1, 8), section)).toThrow(
      expect.objectContaining({ tag: 'format', fields: expect.objectContaining({ tensor: 'w' }) }),
    )
  })

  test('scales whose sum is over f32 are refused', () => {
    const terms = { ...full(2, 2, 3), scales: Float32Array.of(3e38, -3e38) }
    const section = encodeTerms([2, 3], terms)
    expect(() => decodeTerms(section, [2, 3], 2)).toThrow(expect.objectContaining({ tag: 'format' }))
  })
})

function full(count: number, rows: number, cols: number) {
  return {
    scales: new Float32Array(count).fill(1),
    x: new Int8Array(count * rows).fill(1),
    y: new Int8Array(count * cols).fill(-1),
  }
}

describe('table', () => {
  const entry = { name: 'w', shape: [2, 3], codec: 'terms', terms: 1, bytes: 8 }
  const table = (tensors: unknown[], payload: number) =>
    tableFromJson(JSON.stringify({ kind: 'expert', method: 'lora', tensors }), payload)

  test.each([
    [{ terms: 0 }, /terms/],
    [{ terms: 257 }, /terms/],
    [{ terms: 2 }, /bytes of w/],
    [{ bytes: 12 }, /bytes of w/],
    [{ shape: [2 ** 15, 2 ** 15], bytes: 8 }, /bytes of w/],
    [{ numbers: [] }, /numbers/],
    [{ numbers: [0] }, /one \*/],
    [{ name: 'a.*.*', numbers: [0] }, /one \*/],
    [{ name: 'a.*', target: 'b', numbers: [0] }, /one \*/],
    [{ name: 'a.*', numbers: [0, 0] }, /not taken/],
    [{ name: 'a.*', numbers: [-1] }, /numbers\[0\]/],
    [{ name: 'a.*', numbers: [0.5] }, /numbers\[0\]/],
    [{ name: 'a.*', numbers: 'x' }, /numbers/],
    [{ packing: 'mask' }, undefined],
    [{ packing: 'mask', shape: [20, 30] }, /bytes of w/],
    [{ packing: 'mask', terms: 2 }, /bytes of w/],
    [{ packing: 'bits' }, /packing/],
    [{ bytes: [8] }, /bytes/],
    [{ name: 'a.*', numbers: [0], bytes: [8] }, undefined],
    [{ name: 'a.*', numbers: [0], bytes: [8, 8] }, /bytes/],
    [{ name: 'a.*', numbers: [0], bytes: ['8'] }, /bytes/],
    [{ name: 'a.*', numbers: [0], bytes: [] }, /bytes/],
    [{ role: 'delta', kind: 'base' }, undefined],
  ])('%o', (change, message) => {
    const read = () => table([{ ...entry, ...change }], 8)
    if (message === undefined) expect(read().tensors).toHaveLength(1)
    else expect(read).toThrow(message)
  })

  test('more tensors than a table may have are refused before there are any', () => {
    const numbers = Array.from({ length: 40_000 }, (_, i) => i)
    const tensors = ['a.*', 'b.*'].map((name) => ({ ...entry, name, numbers }))
    expect(() => table(tensors, 640_000)).toThrow(expect.objectContaining({ tag: 'limit' }))
  })

  test('layers that differ in their number alone are one entry, and come back as they were', async () => {
    const names = ['q', 'k'].flatMap((module) => [0, 1, 2, 10, 11].map((i) => `layers.${i}.${module}.weight`))
    const tensors = names.map((name, i) => ({
      ...tensorOf([2, 3], 1, 8, name),
      offset: 8 * i,
      target: name.replace('layers', 'h'),
      layout: 'linear' as const,
    }))
    // One of another number of terms stands alone.
    tensors.push({
      ...tensorOf([2, 3], 2, 12, 'layers.12.k.weight'),
      offset: 80,
      target: 'h.12.k.weight',
      layout: 'linear',
    })
    const json = tableToJson({ ...PLAIN_TABLE, method: 'lora', tensors })
    expect(JSON.parse(json).tensors).toHaveLength(3)
    expect(tableFromJson(json, 92).tensors).toEqual(tensors)
    const head = buildHead({ ...PLAIN_TABLE, tensors }, 16, 92, new Uint8Array(32))
    expect((await parseHead(head, 'x')).table.tensors).toEqual(tensors)
  })

  test('layers may have sections of other lengths, which their entry lists', async () => {
    let offset = 0
    const tensors = [0, 1, 5].map((layer, i) => {
      const bytes = 8 + 16 + 4 * i
      offset += bytes
      return { ...tensorOf([20, 30], 2, bytes, `h.${layer}.w`, 'mask'), offset: offset - bytes }
    })
    const json = tableToJson({ ...PLAIN_TABLE, method: 'lora', tensors })
    expect(JSON.parse(json).tensors).toMatchObject([{ bytes: [24, 28, 32], numbers: [0, 1, 5] }])
    expect(tableFromJson(json, offset).tensors).toEqual(tensors)
  })

  test('a name with a * of its own is left as it is', () => {
    const tensors = [0, 1].map((i) => ({ ...tensorOf([2, 3], 1, 8, `a.${i}.*`), offset: 8 * i }))
    expect(tableFromJson(tableToJson({ ...PLAIN_TABLE, tensors }), 16).tensors).toEqual(tensors)
  })

  test('a base has no terms', () => {
    expect(() => tableFromJson(JSON.stringify({ kind: 'base', tensors: [entry] }), 8)).toThrow(/base/)
  })

  test('the head of 210 targets has at most 3 kB', () => {
    const modules = [
      ['self_attn.q_proj', 576, 576],
      ['self_attn.k_proj', 192, 576],
      ['self_attn.v_proj', 192, 576],
      ['self_attn.o_proj', 576, 576],
      ['mlp.gate_proj', 1536, 576],
      ['mlp.up_proj', 1536, 576],
      ['mlp.down_proj', 576, 1536],
    ] as const
    let payload = 0
    const random = randomFrom(7)
    const some = (count: number, rows: number, cols: number) => {
      const { scales, x, y } = full(count, rows, cols)
      const share = 0.45 + 0.15 * random()
      const thin = (entries: Int8Array) => entries.map((entry) => (random() < share ? entry : 0))
      return { scales, x: thin(x), y: thin(y) }
    }
    const tensors = modules.flatMap(([module, rows, cols]) =>
      Array.from({ length: 30 }, (_, i) => {
        // Lengths of all layers differ.
        const { length } = encodeTerms([rows, cols], some(2, rows, cols), 'mask')
        payload += length
        return {
          ...tensorOf([rows, cols], 2, length, `model.layers.${i}.${module}.weight`, 'mask'),
          offset: payload - length,
        }
      }),
    )
    const sketch = Uint16Array.from({ length: 210 * 8 }, (_, i) => (i % 8 < 4 ? random() * 0x3c00 : 0x7e00))
    const base = { name: 'x', fingerprint: 'ab'.repeat(32), sketch }
    const chunks = Math.ceil(payload / 2 ** 16)
    const head = buildHead({ ...PLAIN_TABLE, base, tensors }, 16, payload, new Uint8Array(32 * chunks))
    expect(head.length).toBeLessThanOrEqual(3000)
  })
})
