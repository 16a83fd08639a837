import { expect, test } from 'vitest'
import { fromHalf, toHalf } from '../../src/format/float16.ts'
import { type BlocksCode, blocksLayout, decodeBlocks } from '../../src/format/index.ts'
import { tagThrownBy } from './samples.ts'

/** [2, 20] in blocks of 16: two blocks a row, the second one filled up. */
const SHAPE = [2, 20]

test('components follow one another, padded to whole words', () => {
  const code: BlocksCode = { bits: 4, blockSize: 16, dtype: 'f16', zeroPoints: 'packed' }
  expect(blocksLayout(SHAPE, code)).toEqual({
    rows: 2,
    cols: 20,
    perRow: 2,
    components: {
      weights: { offset: 0, bytes: 32, elementBytes: 1, rowLength: 16 },
      scales: { offset: 32, bytes: 8, elementBytes: 2, rowLength: 2 },
      zeroPoints: { offset: 40, bytes: 2, elementBytes: 1, rowLength: 1 },
    },
    bytes: 44,
  })
  expect(blocksLayout([20, 2], { ...code, transposed: true })).toEqual(blocksLayout(SHAPE, code))
})

test('4 bits, f16 scales, packed zero points: by hand', () => {
  const code: BlocksCode = { bits: 4, blockSize: 16, dtype: 'f16', zeroPoints: 'packed' }
  const section = new Uint8Array(44)
  // Row 0: weight 0 is 3 and weight 1 is 15; weight 17 is 9. Row 1: weight 19 is 1.
  section[0] = 0xf3
  section[8] = 0x90
  section[16 + 8 + 1] = 0x10
  section.set(new Uint8Array(Uint16Array.from([0.5, 2, 1, -4].map(toHalf)).buffer), 32)
  // Zero points 1 and 8, then 0 and 5.
  section.set([0x81, 0x50], 40)
  const values = decodeBlocks(section, SHAPE, code)
  expect([values[0], values[1], values[2]]).toEqual([1, 7, -0.5])
  expect([values[16], values[17]]).toEqual([-16, 2])
  expect([values[20], values[36], values[39]]).toEqual([0, 20, 16])
  const transposed = decodeBlocks(section, [20, 2], { ...code, transposed: true })
  expect(Array.from(transposed)).toEqual(
    Array.from({ length: 40 }, (_, i) => values[(i % 2) * 20 + Math.floor(i / 2)]),
  )
})

test.each([
  [2, 2],
  [4, 8],
  [8, 128],
] as const)('without zero points, %s bits mean the middle of their range', (bits, middle) => {
  const code: BlocksCode = { bits, blockSize: 16, dtype: 'f32' }
  const { bytes, components } = blocksLayout([1, 16], code)
  const section = new Uint8Array(bytes)
  section[0] = 1
  section.set(new Uint8Array(Float32Array.of(0.1).buffer), components.scales.offset)
  const values = decodeBlocks(section, [1, 16], code)
  expect(values[0]).toBe(Math.fround((1 - middle) * Math.fround(0.1)))
  expect(values[15]).toBe(Math.fround(-middle * Math.fround(0.1)))
})

test('float zero points: difference and product are rounded one after the other', () => {
  const code: BlocksCode = { bits: 8, blockSize: 16, dtype: 'f32', zeroPoints: 'float' }
  const { bytes, components } = blocksLayout([1, 16], code)
  const section = new Uint8Array(bytes).fill(200, 0, 16)
  const [scale, zero] = [Math.fround(0.007), Math.fround(127.9)]
  section.set(new Uint8Array(Float32Array.of(scale).buffer), components.scales.offset)
  section.set(new Uint8Array(Float32Array.of(zero).buffer), components.zeroPoints!.offset)
  expect(decodeBlocks(section, [1, 16], code)[3]).toBe(Math.fround(Math.fround(200 - zero) * scale))
})

test('minimums: the product is exact, the sum rounded once', () => {
  const code: BlocksCode = { bits: 4, blockSize: 16, dtype: 'f16', minimums: true }
  const { bytes, components } = blocksLayout([1, 32], code)
  expect(components.minimums).toEqual({ offset: 20, bytes: 4, elementBytes: 2, rowLength: 2 })
  const section = new Uint8Array(bytes)
  section.set([0xf3], 0)
  section.set([0x0e], 8)
  const [scale, minimum, tiny] = [0.0123, -1.456, 2 ** -24].map((value) => fromHalf(toHalf(value)))
  section.set(new Uint8Array(Uint16Array.from([scale, tiny].map(toHalf)).buffer), 16)
  section.set(new Uint8Array(Uint16Array.from([minimum, 1].map(toHalf)).buffer), 20)
  const values = decodeBlocks(section, [1, 32], code)
  expect([...values.subarray(0, 3)]).toEqual([3, 15, 0].map((q) => Math.fround(q * scale + minimum)))
  expect([...values.subarray(16, 18)]).toEqual([Math.fround(1 + 14 * tiny), 1])
})

test('a section that is too short is refused', async () => {
  const code: BlocksCode = { bits: 4, blockSize: 16, dtype: 'f32' }
  expect(await tagThrownBy(() => decodeBlocks(new Uint8Array(39), SHAPE, code))).toBe('format')
})
