import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bindingsFrom, MAX_GRAPHS, MAX_PARTS, type Placement, tableFromJson } from '../../src/format/index.ts'
import { tagThrownBy } from './samples.ts'

const TENSORS = [
  { name: 'q', shape: [6, 4] },
  { name: 'k', shape: [2, 4] },
  { name: 'v', shape: [2, 4] },
  { name: 'bias', shape: [6] },
  { name: 'scalar', shape: [] },
].map((tensor) => ({ ...tensor, codec: 'dense' }))

const place = (tensor: string, offset: number, rowStride: number, colStride: number): Placement => ({
  tensor,
  offset,
  rowStride,
  colStride,
})
const graph = (dims: unknown, parts: unknown, more: object = {}) => ({
  graphs: [{ file: 'onnx/model.onnx', inputs: [{ name: 'w', dtype: 'float32', dims, parts, ...more }] }],
})
const refusal = (value: unknown) => tagThrownBy(() => bindingsFrom(value, TENSORS))

describe('bindings that are in use', () => {
  test.each<[string, number[], Placement[]]>([
    ['row-major', [6, 4], [place('q', 0, 4, 1)]],
    ['transposed', [4, 6], [place('q', 0, 1, 6)]],
    ['q, k and v side by side', [4, 10], [place('q', 0, 1, 10), place('k', 6, 1, 10), place('v', 8, 1, 10)]],
    [
      'q, k and v on top of each other',
      [10, 4],
      [place('v', 32, 4, 1), place('q', 0, 4, 1), place('k', 24, 4, 1)],
    ],
    ['a bias, whose row stride says nothing', [6], [place('bias', 0, 0, 1)]],
    ['a bias in every other element', [12], [place('bias', 1, 6, 2)]],
    ['a scalar', [], [place('scalar', 0, 0, 0)]],
    ['a run between the rows of a matrix', [30], [place('k', 0, 10, 1), place('bias', 4, 0, 1)]],
  ])('%s', (_, dims, parts) => {
    const value = graph(dims, parts)
    expect(bindingsFrom(JSON.parse(JSON.stringify(value)), TENSORS)).toEqual(value)
  })

  test('fields that this version does not know are left out', () => {
    const value = graph([6, 4], [{ ...place('q', 0, 4, 1), note: 1 }], { note: 2 })
    expect(bindingsFrom(value, TENSORS)).toEqual(graph([6, 4], [place('q', 0, 4, 1)]))
  })
})

describe('inputs that stay quantized', () => {
  const code = { codec: 'blocks', bits: 4, blockSize: 32, dtype: 'f16' } as const
  const quantized = [
    { name: 'q', shape: [6, 40], ...code, zeroPoints: 'packed' as const },
    { name: 'k', shape: [2, 40], ...code, zeroPoints: 'packed' as const },
    { name: 'odd', shape: [3, 40], ...code },
    { name: 'dense', shape: [6, 32], codec: 'dense' as const },
  ]
  const input = (raw: unknown, dtype: string, elements: number, ...parts: Placement[]) =>
    graph([elements], parts, { raw, dtype })
  const refused = (value: unknown) => tagThrownBy(() => bindingsFrom(value, quantized))

  test.each<[string, unknown]>([
    ['weights', input('weights', 'uint8', 256, place('q', 0, 32, 1), place('k', 192, 32, 1))],
    ['scales', input('scales', 'float16', 16, place('q', 0, 2, 1), place('k', 12, 2, 1))],
    [
      'zero points, one byte a row',
      input('zeroPoints', 'uint8', 10, place('k', 0, 1, 1), place('q', 4, 1, 1)),
    ],
  ])('%s', (_, value) => {
    expect(bindingsFrom(value, quantized)).toEqual(value)
  })

  test.each<[string, unknown]>([
    ['another component', input('biases', 'uint8', 192, place('q', 0, 32, 1))],
    ['integers without a component', input(undefined, 'uint8', 240, place('q', 0, 40, 1))],
    ['a component of another type', input('scales', 'float32', 12, place('q', 0, 2, 1))],
    ['a component that the tensor lacks', input('zeroPoints', 'uint8', 3, place('odd', 0, 1, 1))],
    ['a component of a dense tensor', input('weights', 'uint8', 192, place('dense', 0, 32, 1))],
    ['columns first', input('weights', 'uint8', 192, place('q', 0, 1, 6))],
    ['gaps between rows', input('weights', 'uint8', 400, place('q', 0, 36, 1))],
    ['a start inside a word', input('zeroPoints', 'uint8', 10, place('k', 0, 1, 1), place('q', 2, 1, 1))],
    ['a place past the end', input('weights', 'uint8', 191, place('q', 0, 32, 1))],
    ['one place on another', input('weights', 'uint8', 256, place('q', 0, 32, 1), place('k', 188, 32, 1))],
  ])('with %s are refused', async (_, value) => {
    expect(await refused(value)).toBe('format')
  })
})

describe('bindings that are refused', () => {
  test.each<[string, unknown]>([
    ['a tensor that is not there', graph([6, 4], [place('o', 0, 4, 1)])],
    ['an offset past the end', graph([6, 4], [place('q', 1, 4, 1)])],
    ['strides past the end', graph([6, 4], [place('q', 0, 5, 1)])],
    ['a negative offset', graph([6, 4], [place('q', -1, 4, 1)])],
    ['a negative stride', graph([6, 4], [place('q', 23, -4, 1)])],
    ['a stride that is no whole number', graph([6, 4], [place('q', 0, 3.5, 1)])],
    ['rows on top of each other', graph([6, 4], [place('q', 0, 0, 1)])],
    ['rows that overlap', graph([6, 4], [place('q', 0, 3, 1)])],
    ['the same place twice', graph([6, 4], [place('k', 0, 4, 1), place('v', 0, 4, 1)])],
    ['parts that share one element', graph([6, 4], [place('k', 0, 4, 1), place('v', 7, 4, 1)])],
    ['columns that overlap', graph([4, 10], [place('q', 0, 1, 10), place('k', 5, 1, 10)])],
    [
      'columns that wrap into the next row of another',
      graph([4, 10], [place('q', 0, 1, 10), place('k', 9, 1, 10)]),
    ],
    ['strides that do not fit together', graph([100], [place('q', 0, 10, 1), place('k', 4, 9, 1)])],
    ['a size of 0', graph([6, 0], [])],
    ['another dtype', graph([6, 4], [], { dtype: 'int8' })],
    [
      'two inputs of one name',
      { graphs: [{ file: 'm.onnx', inputs: [0, 1].map(() => graph([6], []).graphs[0].inputs[0]) }] },
    ],
    ['two graphs of one file', { graphs: [0, 1].map(() => ({ file: 'm.onnx', inputs: [] })) }],
    ['no graphs', {}],
    ['nothing', null],
  ])('%s', async (_, value) => {
    expect(await refusal(value)).toBe('format')
  })

  test.each([
    '',
    '/etc/passwd',
    '../model.onnx',
    'onnx/../../model.onnx',
    'onnx//model.onnx',
    'https://example.org/m.onnx',
    'onnx\\m.onnx',
    './m.onnx',
    'm.onnx?x',
    '%2e%2e/m.onnx',
  ])('graph file %j', async (file) => {
    expect(await refusal({ graphs: [{ file, inputs: [] }] })).toBe('format')
  })

  test('graphs, inputs and parts over a limit', async () => {
    const graphs = Array.from({ length: MAX_GRAPHS + 1 }, (_, i) => ({ file: `${i}.onnx`, inputs: [] }))
    expect(await refusal({ graphs })).toBe('limit')
    expect(await refusal(graph([2 ** 16, 2 ** 16], []))).toBe('limit')
    expect(await refusal(graph(Array(9).fill(1), []))).toBe('limit')
    expect(await refusal(graph([2 ** 20], Array(MAX_PARTS + 1).fill(place('scalar', 0, 0, 0))))).toBe('limit')
  })

  test('an expert has none, a base only true ones', async () => {
    const table = (kind: string, bindings: unknown) =>
      tableFromJson(
        JSON.stringify({
          kind,
          bindings,
          tensors: [{ name: 'bias', shape: [6], codec: 'dense', dtype: 'f16', bytes: 12 }],
        }),
        12,
      )
    const good = graph([6], [place('bias', 0, 0, 1)])
    expect(table('base', good).bindings).toEqual(good)
    expect(table('expert', good).bindings).toBeUndefined()
    expect(await tagThrownBy(() => table('base', graph([5], [place('bias', 0, 0, 1)])))).toBe('format')
  })
})

describe('overlap', () => {
  /** Element indices of a placement, one by one. */
  const elements = ({ offset, rowStride, colStride }: Placement, rows: number, cols: number) =>
    Array.from(
      { length: rows * cols },
      (_, i) => offset + Math.floor(i / cols) * rowStride + (i % cols) * colStride,
    )

  const stride = fc.integer({ min: 0, max: 13 })
  const part = fc.record({
    rows: fc.integer({ min: 1, max: 4 }),
    cols: fc.integer({ min: 1, max: 4 }),
    offset: fc.integer({ min: 0, max: 30 }),
    rowStride: fc.oneof(stride, fc.constant(1), fc.constant(10)),
    colStride: fc.oneof(stride, fc.constant(1), fc.constant(10)),
  })

  test('parts that pass share no element and stay inside', () => {
    let passed = 0
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 3 }), (parts) => {
        const tensors = parts.map(({ rows, cols }, i) => ({
          name: `t${i}`,
          shape: [rows, cols],
          codec: 'dense',
        }))
        const placements = parts.map(({ offset, rowStride, colStride }, i) =>
          place(`t${i}`, offset, rowStride, colStride),
        )
        try {
          bindingsFrom(graph([50], placements), tensors)
        } catch {
          return true
        }
        passed++
        const all = parts.flatMap((part, i) => elements(placements[i], part.rows, part.cols))
        return new Set(all).size === all.length && all.every((element) => element < 50)
      }),
      { numRuns: 20_000, seed: 4 },
    )
    expect(passed).toBeGreaterThan(500)
  })

  test('parts of one pitch pass whenever they share no element', () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 2, maxLength: 2 }), (parts) => {
        const tensors = parts.map(({ rows, cols }, i) => ({
          name: `t${i}`,
          shape: [rows, cols],
          codec: 'dense',
        }))
        const placements = parts.map(({ offset }, i) => place(`t${i}`, offset, 10, 1))
        const all = parts.flatMap((part, i) => elements(placements[i], part.rows, part.cols))
        const apart = new Set(all).size === all.length && all.every((element) => element < 80)
        let passed = true
        try {
          bindingsFrom(graph([80], placements), tensors)
        } catch {
          passed = false
        }
        return passed === apart
      }),
      { numRuns: 20_000, seed: 5 },
    )
  })
})
