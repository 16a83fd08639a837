import { describe, expect, test } from 'vitest'
import { closeness, scoreWindow, windowsOf } from '../../src/model/score.ts'

const VOCABULARY = 4

/** Logits whose softmax is exactly the given probabilities, plus a constant that must not matter. */
function logitsOf(rows: number[][], shift = 0): Float32Array {
  return Float32Array.from(rows.flatMap((row) => row.map((p) => Math.log(p) + shift)))
}

const ROWS = [
  [0.5, 0.25, 0.125, 0.125],
  [0.125, 0.125, 0.25, 0.5],
  [0.25, 0.25, 0.25, 0.25],
]

describe('scoreWindow', () => {
  test('adds −log2 p of every token but the first', () => {
    // p = 0.25 for token 1 after token 0, then 0.5 for token 3; the last row predicts beyond the window.
    const { bits, tokens } = scoreWindow(logitsOf(ROWS), VOCABULARY, [0, 1, 3])
    expect(bits).toBeCloseTo(2 + 1, 5)
    expect(tokens).toBe(2)
  })

  test('is not moved by a constant, nor by logits whose exponentials overflow', () => {
    expect(scoreWindow(logitsOf(ROWS, 1000), VOCABULARY, [0, 1, 3]).bits).toBeCloseTo(3, 3)
  })
})

describe('closeness', () => {
  test('a model is at no distance from itself', () => {
    const logits = { data: logitsOf(ROWS), vocabulary: VOCABULARY }
    expect(closeness(logits, logits, 3)).toEqual({ positions: 2, agreeing: 2, klBits: 0 })
  })

  test('KL(reference ‖ other) in bits, and how often the first ranks agree', () => {
    const reference = { data: logitsOf([[0.5, 0.25, 0.125, 0.125]]), vocabulary: VOCABULARY }
    const other = { data: logitsOf([[0.25, 0.5, 0.125, 0.125]]), vocabulary: VOCABULARY }
    const { positions, agreeing, klBits } = closeness(reference, other, 2)
    expect(positions).toBe(1)
    expect(agreeing).toBe(0)
    // 0.5·log2(0.5/0.25) + 0.25·log2(0.25/0.5)
    expect(klBits).toBeCloseTo(0.25, 5)
  })
})

test('windowsOf leaves out what does not fill a window', () => {
  expect(windowsOf([1, 2, 3, 4, 5, 6, 7], 3)).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ])
})
