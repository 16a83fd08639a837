import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { memorySource } from '../../src/source/memory.ts'
import { buildGolden, contentOf } from './golden_content.ts'

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url))
const golden = new Uint8Array(read('tests/fixtures/golden.trit'))

describe('the golden file', () => {
  test('is what this writer writes, byte for byte', async () => {
    expect(Buffer.from(await buildGolden()).equals(golden)).toBe(true)
  })

  test('holds what golden.json says', async () => {
    expect(await contentOf(memorySource(golden))).toEqual(
      JSON.parse(read('tests/fixtures/golden.json').toString()),
    )
  })

  test('is quoted truly by FORMAT.md', () => {
    const dump = [
      ...read('docs/FORMAT.md')
        .toString()
        .matchAll(/^([0-9a-f]{6}) ((?: [0-9a-f]{2})+)/gm),
    ]
    expect(dump.length).toBeGreaterThan(5)
    for (const [, offset, bytes] of dump) {
      const start = Number.parseInt(offset, 16)
      const expected = bytes.trim().split(' ')
      expect({ offset, bytes: Array.from(golden.subarray(start, start + expected.length), hex) }).toEqual({
        offset,
        bytes: expected,
      })
    }
  })
})

const hex = (byte: number) => byte.toString(16).padStart(2, '0')
