import { expect, test } from 'vitest'
import { vramParts } from '../../src/demo/vram.ts'

const none = { base: 0, own: 0, experts: 0, journal: 0, copies: 0, beside: 0 }

test('all of the VRAM is shown, and what brings the base back as one', () => {
  const vram = { base: 64, own: 32, experts: 16, journal: 8, copies: 4, beside: 2 }
  const parts = vramParts(vram)
  expect(parts.reduce((sum, [, bytes]) => sum + bytes, 0)).toBe(126)
  expect(parts).toContainEqual(['what they replaced', 12])
})

test('what most bases lack is shown where it is there', () => {
  expect(vramParts(none).map(([name]) => name)).toEqual(['base', 'files', 'what they replaced'])
  expect(vramParts({ ...none, own: 1, beside: 1 })).toHaveLength(5)
})
