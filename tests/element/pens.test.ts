import { expect, test } from 'vitest'
import { pensOfRegistry } from '../../src/element/pens.ts'
import { parseRegistry } from '../../src/source/registry.ts'

const entry = (id: string, variantOf?: string) => ({
  id,
  label: id,
  url: `${id}.trit`,
  bytes: 1,
  rootHash: 'a'.repeat(64),
  ...(variantOf !== undefined && { variantOf }),
})

/** Which pens there are, each with its variants. */
const shown = (...entries: ReturnType<typeof entry>[]) =>
  pensOfRegistry(entries).map(({ id, variants = [] }) =>
    [id, ...variants.slice(1).map((pen) => pen.id)].join(),
  )

test('variants are choices of the expert that they are compressions of', () => {
  expect(shown(entry('a5', 'a'), entry('a'), entry('b'), entry('a9', 'a'))).toEqual(['a,a5,a9', 'b'])
  expect(shown(entry('a'), entry('a5', 'a'), entry('a2', 'a5'))).toEqual(['a,a5,a2'])
})

test('every entry is shown once, whatever variantOf says', () => {
  expect(shown(entry('self', 'self'))).toEqual(['self'])
  expect(shown(entry('lost', 'nowhere'))).toEqual(['lost'])
  expect(shown(entry('a', 'b'), entry('b', 'a'))).toEqual(['a,b'])
  expect(shown(entry('x', 'a'), entry('a', 'b'), entry('b', 'c'), entry('c', 'a'))).toEqual(['a,x,b,c'])
})

test.each([
  ['experts', (i: number) => entry(`e${i}`)],
  ['variants of one', (i: number) => entry(`e${i}`, 'e0')],
  ['a chain', (i: number) => entry(`e${i}`, `e${i - 1}`)],
  ['a circle', (i: number) => entry(`e${i}`, `e${(i + 1) % 10_000}`)],
])('ten thousand entries are looked at once each: %s', (_, make) => {
  const experts = Array.from({ length: 10_000 }, (_, i) => make(i))
  let reads = 0
  const counted = parseRegistry(JSON.stringify({ version: 1, experts })).experts.map((expert) =>
    Object.defineProperty({ ...expert }, 'variantOf', {
      get: () => {
        reads++
        return expert.variantOf
      },
      enumerable: true,
    }),
  )
  const pens = pensOfRegistry(counted)
  expect(pens.reduce((sum, { variants }) => sum + (variants?.length ?? 1), 0)).toBe(10_000)
  expect(reads).toBeLessThan(50_000)
})
