import { describe, expect, test } from 'vitest'
import { compareExperts, type Similarity, similarityOf } from '../../src/compress/compare.ts'
import type { OpenExpert } from '../../src/compress/open_expert.ts'
import { masksOf, type Operand, pairSums, popcount, termsMasksOf } from '../../src/compress/pair_sums.ts'
import { termsValues } from '../../src/format/codecs/terms_code.ts'
import { decodeValues, readHead, readSection, weightsOf } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import {
  buildFile,
  PLAIN_TABLE,
  randomEntries,
  randomFrom,
  type SampleTensor,
  tagThrownBy,
} from '../format/samples.ts'

async function open(samples: SampleTensor[], method: 'full' | 'lora' = 'full'): Promise<OpenExpert> {
  const source = memorySource(await buildFile(samples, { ...PLAIN_TABLE, method }))
  return { source, head: await readHead(source) }
}

/** All values of one tensor, one by one; undefined where the expert has none. */
async function denseValues({ source, head }: OpenExpert, name: string): Promise<Float32Array | undefined> {
  const tensor = head.table.tensors.find((tensor) => tensor.name === name)
  if (tensor === undefined) return undefined
  const section = await readSection(source, head, tensor)
  return decodeValues(tensor, section)
}

/** The measures by their definitions, over concatenated tensors. */
function byDefinition(a: number[], b: number[]) {
  const sum = (of: (x: number, y: number) => number) => a.reduce((total, x, i) => total + of(x, b[i]), 0)
  const dot = sum((x, y) => x * y)
  const both = sum((x, y) => Number(x !== 0 && y !== 0))
  return {
    dot,
    cosine: dot / Math.sqrt(sum((x) => x * x) * sum((_, y) => y * y)),
    l1: sum((x, y) => Math.abs(x - y)),
    signL1: sum((x, y) => Math.abs(Math.sign(x) - Math.sign(y))),
    overlap: both / sum((x, y) => Number(x !== 0 || y !== 0)),
    signAgreement: sum((x, y) => Number(x !== 0 && y !== 0 && Math.sign(x) === Math.sign(y))) / both,
  }
}

const ternary = (
  name: string,
  shape: number[],
  density: number,
  seed: number,
  scale: number,
): SampleTensor => ({
  name,
  shape,
  entries: randomEntries(weightsOf(shape), density, seed),
  scale,
})
const dense = (name: string, length: number, seed: number): SampleTensor => {
  const random = randomFrom(seed)
  return {
    name,
    shape: [length],
    values: Float32Array.from({ length }, () => (random() < 0.2 ? 0 : random() - 0.5)),
  }
}

/** Experts that share tensors in every way: both ternary, both dense, one of each, only in one. */
const experts = Promise.all([
  open([
    ternary('w', [70, 90], 0.2, 101, 0.5),
    dense('norm', 77, 5),
    ternary('mixed', [50], 0.5, 31, 2),
    ternary('mine', [33], 0.9, 7, 1),
  ]),
  open([ternary('w', [70, 90], 0.35, 2002, 0.25), dense('norm', 77, 6), dense('mixed', 50, 9)]),
  open([ternary('w', [70, 90], 0.2, 101, 0.5), ternary('late', [40, 40], 0.1, 13, 3)]),
])

describe('experts compared by counting bits', () => {
  test('give what the dense computation gives, per tensor and in total', async () => {
    const opened = await experts
    const { total, tensors } = await compareExperts(opened)
    expect(tensors.map(({ name }) => name)).toEqual(['w', 'norm', 'mixed', 'mine', 'late'])
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        const all: [number[], number[]] = [[], []]
        for (const { name, similarity } of tensors) {
          const [a, b] = await Promise.all([denseValues(opened[i], name), denseValues(opened[j], name)])
          if (a === undefined && b === undefined) continue
          const values = [a ?? b!.map(() => 0), b ?? a!.map(() => 0)].map((list) => Array.from(list)) as [
            number[],
            number[],
          ]
          for (const k of [0, 1]) all[k].push(...values[k])
          expectClose(similarity[i][j], byDefinition(...values))
        }
        expectClose(total[i][j], byDefinition(...all))
      }
    }
  })

  test('an expert is itself', async () => {
    const { total } = await compareExperts(await experts)
    for (let i = 0; i < 3; i++) {
      expect(total[i][i]).toMatchObject({ l1: 0, signL1: 0, overlap: 1, signAgreement: 1 })
      expect(total[i][i].cosine).toBeCloseTo(1, 12)
    }
  })

  test('the formulas of the paper, on masks', () => {
    const a = { indices: Uint32Array.of(0, 1, 2, 40, 63), negative: Uint8Array.of(0, 1, 0, 1, 1) }
    const b = { indices: Uint32Array.of(1, 2, 3, 40), negative: Uint8Array.of(1, 1, 0, 1) }
    const sums = pairSums(masksOf({ ...a, scale: 2 }), masksOf({ ...b, scale: 3 }))
    // Shared: 1 and 40 agree, 2 does not.
    expect(sums).toEqual({
      dot: 6,
      squares: [20, 36],
      byWeight: { l1: 2 * 2 + 3 + 1 + 1 + 5, signL1: 5, shared: 3, either: 6, agreeing: 2 },
    })
    expect(similarityOf(sums).cosine).toBeCloseTo(6 / Math.sqrt(20 * 36), 12)
  })

  test('nothing in common is null, not a number', () => {
    const none = { indices: new Uint32Array(0), negative: new Uint8Array(0) }
    expect(similarityOf(pairSums(masksOf({ ...none, scale: 1 }), undefined))).toMatchObject({
      cosine: null,
      overlap: null,
      signAgreement: null,
    })
  })

  test('terms give what their matrices give, beside terms, ternary and dense tensors', () => {
    const [rows, cols] = [37, 70]
    const random = randomFrom(3)
    const signs = (length: number) => Int8Array.from({ length }, () => Math.floor(3 * random()) - 1)
    const termsOf = (count: number) => ({
      scales: Float32Array.from({ length: count }, () => random() - 0.5),
      x: signs(count * rows),
      y: signs(count * cols),
    })
    const [a, b] = [termsOf(3), termsOf(1)]
    const [valuesA, valuesB] = [a, b].map((terms) => termsValues(terms, [rows, cols], 0, rows * cols))
    const [masksA, masksB] = [a, b].map((terms) => termsMasksOf(terms, [rows, cols]))
    const entries = { ...randomEntries(rows * cols, 0.2, 8), scale: 0.3 }
    const sparse = new Float32Array(rows * cols)
    for (const [i, index] of entries.indices.entries()) sparse[index] = entries.negative[i] ? -0.3 : 0.3
    const pairs: [Operand | undefined, Operand | undefined, Float32Array, Float32Array][] = [
      [masksA, masksB, valuesA, valuesB],
      [masksA, masksA, valuesA, valuesA],
      [masksA, undefined, valuesA, new Float32Array(rows * cols)],
      [undefined, masksA, new Float32Array(rows * cols), valuesA],
      [masksA, valuesB, valuesA, valuesB],
      [masksOf(entries), masksA, sparse, valuesA],
    ]
    for (const [left, right, own, other] of pairs) {
      const sums = pairSums(left, right)
      const wanted = pairSums(own, other)
      expect(sums.dot).toBeCloseTo(wanted.dot, 4)
      expect(sums.squares[0]).toBeCloseTo(wanted.squares[0], 3)
      expect(sums.squares[1]).toBeCloseTo(wanted.squares[1], 3)
      expect(similarityOf(sums)).toMatchObject({ l1: null, signL1: null, overlap: null, signAgreement: null })
    }
    expect(similarityOf(pairSums(masksA, masksA)).cosine).toBeCloseTo(1, 12)
  })

  test('tensors of one name that are not the same thing are refused', async () => {
    const other = await open([ternary('w', [90, 70], 0.2, 1, 0.5)])
    expect(await tagThrownBy(async () => compareExperts([(await experts)[0], other]))).toBe('input')
  })

  test.each([
    ['no tensor in common', [ternary('other', [70, 90], 0.2, 1, 0.5)], 'full', /no tensor in common/],
    ['another method', [ternary('w', [70, 90], 0.2, 1, 0.5)], 'lora', /method full, the other lora/],
  ] as const)('experts with %s are refused: a 0 would look measured', async (_, samples, method, message) => {
    const other = await open([...samples], method)
    await expect(compareExperts([(await experts)[0], other])).rejects.toThrow(message)
  })
})

test('popcount counts the bits of any word', () => {
  const random = randomFrom(3)
  for (const word of [
    0,
    1,
    0x80000000,
    0xffffffff,
    -1,
    ...Array.from({ length: 1000 }, () => random() * 2 ** 32),
  ]) {
    const bits = (word >>> 0).toString(2).replaceAll('0', '').length
    expect(popcount(word | 0)).toBe(bits)
    expect(popcount(word >>> 0)).toBe(bits)
  }
})

function expectClose(found: Similarity, expected: { [K in keyof Similarity]: number }) {
  for (const key of Object.keys(expected) as (keyof Similarity)[]) {
    const value = expected[key]
    if (Number.isNaN(value)) expect([key, found[key]]).toEqual([key, null])
    else
      expect(Math.abs(found[key]! - value), `${key}: ${found[key]}, not ${value}`).toBeLessThanOrEqual(
        1e-6 * Math.max(1, Math.abs(value)),
      )
  }
}
