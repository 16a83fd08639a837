import { describe, expect, test } from 'vitest'
import { chunkRanges, planFetch } from '../../src/format/plan.ts'
import { tritFile } from '../fetcher/trit_file.ts'

const CHUNK = 1 << 16

describe('planFetch', async () => {
  // 3 tensors of 120,000 bytes in 6 chunks, the last one short.
  const { head, bytes } = await tritFile()

  test('a whole file is one range to its last byte', () => {
    const plan = planFetch(head)
    expect(plan).toEqual({
      cached: [],
      ranges: [{ first: 0, last: 5, offset: head.headBytes, end: bytes.length }],
      bytes: head.payloadBytes,
    })
  })

  test('cached chunks split it', () => {
    const { ranges, cached } = planFetch(head, { cached: new Set([0, 2, 3, 9]) })
    expect(cached).toEqual([0, 2, 3])
    expect(ranges.map(({ first, last }) => [first, last])).toEqual([
      [1, 1],
      [4, 5],
    ])
    expect(ranges[0]).toMatchObject({ offset: head.headBytes + CHUNK, end: head.headBytes + 2 * CHUNK })
    expect(planFetch(head, { cached: new Set([0, 1, 2, 3, 4, 5]) }).ranges).toEqual([])
  })

  test('tensors need the chunks they lie in, each once', () => {
    const chunksOf = (...tensors: string[]) =>
      planFetch(head, { tensors }).ranges.map(({ first, last }) => [first, last])
    expect(chunksOf('t0')).toEqual([[0, 1]])
    expect(chunksOf('t1')).toEqual([[1, 3]])
    expect(chunksOf('t2', 't0')).toEqual([
      [0, 1],
      [3, 5],
    ])
    expect(chunksOf()).toEqual([])
    expect(() => planFetch(head, { tensors: ['t7'] })).toThrowError(/no tensor of this name/)
  })

  test('runs of chunks', () => {
    expect(chunkRanges(head, [1, 2, 5]).map(({ first, last }) => [first, last])).toEqual([
      [1, 2],
      [5, 5],
    ])
    expect(chunkRanges(head, [])).toEqual([])
  })
})
