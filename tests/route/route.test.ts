import { describe, expect, test } from 'vitest'
import {
  type CentroidTable,
  centroidTable,
  nearestCentroids,
  rowWords,
} from '../../src/route/centroid_table.ts'
import { type Centroid, centroidsOf, PLANE_WORDS, positionOf } from '../../src/route/centroids.ts'
import { centroidsIn, readIndex, writeIndex } from '../../src/route/index_file.ts'
import { type Routable, routeAmong } from '../../src/route/route.ts'
import { DIMS } from '../../src/route/space.ts'

const EXPERTS: Routable[] = [
  {
    id: 'units',
    label: 'Units',
    samples: [
      '12 km in miles',
      '5 kg in pounds',
      '30 C in F',
      '3 litres in cups',
      '70 mph in km/h',
      '9 feet in m',
    ],
  },
  {
    id: 'dates',
    label: 'Dates',
    samples: [
      'ISO of March 3, 2021',
      'ISO of 4 May 1999',
      'ISO of the 5th of June 2020',
      'ISO of Jul 9, 1987',
    ],
  },
  { id: 'silent', label: 'Silent' },
]

describe('a route', () => {
  test.each([
    ['8 km in feet', 'units'],
    ['41 F in C', 'units'],
    ['ISO of August 17, 2003', 'dates'],
    ['Write a poem about autumn', undefined],
    ['What is the capital of France?', undefined],
    ['', undefined],
    ['😀', undefined],
  ])('of %j leads to %s', (text, id) => {
    const { chosen, why, ranking } = routeAmong(text, EXPERTS)
    expect(chosen?.id).toBe(id)
    expect(why).not.toBe('')
    expect(ranking.map(({ score }) => score)).toEqual(ranking.map(({ score }) => score).sort((a, b) => b - a))
  })

  test('leads to no expert that was withdrawn', () => {
    const withdrawn = EXPERTS.map((expert) => ({ ...expert, withdrawn: 'It was wrong' }))
    expect(routeAmong('8 km in feet', withdrawn).chosen).toBeUndefined()
  })

  test('among none says so', () => {
    expect(routeAmong('8 km in feet', [])).toMatchObject({ chosen: undefined, ranking: [] })
  })
})

describe('centroids', () => {
  test('are the same for the same requests, at most eight, and none for none', () => {
    const many = Array.from({ length: 40 }, (_, i) => `${i} km in ${['miles', 'feet', 'inches'][i % 3]}`)
    expect(centroidsOf(many)).toEqual(centroidsOf(many))
    expect(centroidsOf(many)).toHaveLength(8)
    expect(centroidsOf([' ', ''])).toEqual([])
  })

  test('of ten thousand, one that fits is found by its signs, with the cosine that its values have', () => {
    const count = 10_000
    const random = xorshift(7)
    const table = {
      count,
      owners: Uint32Array.from({ length: count }, (_, c) => c),
      signs: Uint32Array.from({ length: DIMS * rowWords(count) }, random),
      magnitudes: Uint32Array.from({ length: count * PLANE_WORDS }, random),
    }
    const planted = new Map([
      ['8 km in feet', '12 km in miles'],
      ['ISO of August 17, 2003', 'ISO of March 3, 2021'],
      ['turn on the light in the hall', 'turn off the lamp in the kitchen'],
      ['how many rows are there', 'how many columns are there in it'],
    ])
    for (const [at, like] of [...planted.values()].entries())
      plant(table, 2500 * at + 31, centroidsOf([like])[0]!)
    for (const [at, text] of [...planted.keys()].entries()) {
      const position = positionOf(text)
      const [first] = nearestCentroids(table, position)
      expect(first!.centroid).toBe(2500 * at + 31)
      expect(first!.similarity).toBeCloseTo(slowSimilarity(table, first!.centroid, position), 5)
    }
  })
})

describe('an index', () => {
  const written = writeIndex(
    EXPERTS.map(({ id, label = id, samples = [] }) => ({ id, label, centroids: centroidsOf(samples) })),
  )

  test('is read as it was written', () => {
    const { experts, table } = readIndex(written, 'x.idx')
    expect(experts).toEqual(EXPERTS.map(({ id, label }) => ({ id, label })))
    const expected = centroidTable(EXPERTS.map(({ samples = [] }) => centroidsOf(samples)))
    expect(table).toEqual(expected)
    expect(centroidsIn({ experts, table }).get('dates')).toEqual(centroidsOf(EXPERTS[1]!.samples!))
  })

  test('that is cut, longer or not one is refused', () => {
    for (const length of [0, 7, 40, written.length - 4])
      expect(() => readIndex(written.slice(0, length), 'x.idx')).toThrowError(
        expect.objectContaining({ tag: 'format' }),
      )
    const longer = new Uint8Array(written.length + 4)
    longer.set(written)
    expect(() => readIndex(longer, 'x.idx')).toThrowError(expect.objectContaining({ tag: 'format' }))
  })

  test('whatever its head says, it is refused or read within its bytes', () => {
    const random = xorshift(3)
    for (let n = 0; n < 300; n++) {
      const hostile = written.slice()
      hostile[random() % 60] = random() & 255
      try {
        readIndex(hostile, 'x.idx')
      } catch (error) {
        expect((error as { tag?: string }).tag).toMatch(/format|unsupported/)
      }
    }
  })
})

function plant(table: CentroidTable, c: number, { signs, magnitudes }: Centroid): void {
  const words = rowWords(table.count)
  table.magnitudes.set(magnitudes, c * PLANE_WORDS)
  for (let i = 0; i < DIMS; i++) {
    const at = i * words + (c >> 5)
    const bit = (signs[i >> 5]! >>> (i & 31)) & 1
    table.signs[at] = (table.signs[at]! & ~(1 << (c & 31))) | (bit << (c & 31))
  }
}

function slowSimilarity(table: CentroidTable, c: number, position: Float32Array): number {
  const words = rowWords(table.count)
  const start = c * PLANE_WORDS
  const values = Array.from({ length: DIMS }, (_, i) => {
    const magnitude = ((table.magnitudes[start + (i >> 5)]! >>> (i & 31)) & 1) === 1 ? 3 : 1
    return ((table.signs[i * words + (c >> 5)]! >>> (c & 31)) & 1) === 1 ? -magnitude : magnitude
  })
  const dot = values.reduce((sum, value, i) => sum + value * position[i]!, 0)
  return dot / Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
}

function xorshift(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}
