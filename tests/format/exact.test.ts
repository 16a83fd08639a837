import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeExact, encodeExact } from '../../src/format/codecs/exact_code.ts'
import { decodeValues } from '../../src/format/codecs/index.ts'
import {
  memorySpool,
  readHead,
  readSection,
  TritWriter,
  tableFromJson,
  weightsOf,
} from '../../src/format/index.ts'
import {
  bitsFromUnit,
  forEachStep,
  STEP_UNITS,
  type StepUnit,
  stepped,
  steppedValue,
  stepsBetween,
  unitBits,
  unitFromBits,
} from '../../src/format/steps.ts'
import { memorySource } from '../../src/source/memory.ts'
import { PLAIN_TABLE, randomEntries, randomFrom, tagThrownBy } from './samples.ts'

const bytesOf = (words: Uint32Array<ArrayBuffer>) => new Uint8Array(words.buffer)
const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]

describe('steps', () => {
  test.each(STEP_UNITS)(
    'in %s lead from any pattern to any other, and count values in their order',
    (unit) => {
      const pattern = fc.nat({ max: 2 ** unitBits(unit) - 1 })
      fc.assert(
        fc.property(pattern, pattern, (from, to) => {
          expect(stepped(from, stepsBetween(from, to, unit), unit)).toBe(to)
        }),
        { seed: 1 },
      )
      const one = unitFromBits(bitsOf(1), unit)
      for (const [from, to] of [
        [1, 1 + 2 ** -(unit === 'f32' ? 23 : unit === 'f16' ? 10 : 7)],
        [-1, -1 + 2 ** -(unit === 'f32' ? 24 : unit === 'f16' ? 11 : 8)],
        [-0, 0],
      ])
        expect(stepsBetween(unitFromBits(bitsOf(from), unit), unitFromBits(bitsOf(to), unit), unit)).toBe(1)
      expect(bitsFromUnit(one, unit)).toBe(bitsOf(1))
    },
  )

  test('bf16 is rounded to nearest, ties to even; what is no number stays none', () => {
    const cases = {
      1065385984: 0x3f80,
      1065451520: 0x3f82,
      1065385985: 0x3f81,
      2139095041: 0x7fc0,
      2139095039: 0x7f80,
    }
    for (const [bits, pattern] of Object.entries(cases))
      expect(unitFromBits(Number(bits), 'bf16')).toBe(pattern)
  })
})

const SHAPES = [[], [5], [5000], [3, 5], [70, 130], [65, 4097], [8, 4, 3, 3]]

/** Random steps of a share of the weights. */
function randomSteps(weights: number, unit: StepUnit, density: number, seed: number) {
  const random = randomFrom(seed)
  const most = 2 ** (unitBits(unit) - 1)
  const far = [2, -3, 40, -most, most - 1, Math.floor(random() * most) || 1]
  const { indices } = randomEntries(weights, density, seed)
  const places = Uint32Array.from(indices)
  return {
    places,
    steps: Int32Array.from(places, () =>
      random() < 0.7 ? (random() < 0.5 ? 1 : -1) : far[Math.floor(random() * far.length)],
    ),
  }
}

const joined = ({ places, steps }: { places: Uint32Array<ArrayBuffer>; steps: Int32Array<ArrayBuffer> }) =>
  Buffer.concat([Uint32Array.of(places.length), places, steps].map(({ buffer }) => Buffer.from(buffer)))

describe('an exact section', () => {
  test.each(STEP_UNITS)('of %s decodes to the steps that were encoded, for any shape and density', (unit) => {
    for (const [i, shape] of SHAPES.entries()) {
      for (const density of [0.001, 0.05, 1]) {
        const all = randomSteps(weightsOf(shape), unit, density, i + 1)
        if (all.places.length === 0) continue
        const { words, ...code } = encodeExact(unit, all)
        // At any alignment.
        const shifted = new Uint8Array(words.byteLength + 1)
        shifted.set(bytesOf(words), 1)
        // Arrays of this size are not for toEqual, which takes seconds.
        expect(joined(decodeExact(shape, code, shifted.subarray(1))).equals(joined(all))).toBe(true)
      }
    }
  })

  test('is the bytes that FORMAT.md gives as an example', () => {
    const all = { places: Uint32Array.of(2, 3, 10), steps: Int32Array.of(1, -1, 300) }
    const { words, ...code } = encodeExact('bf16', all)
    expect(code).toEqual({ unit: 'bf16', kept: 3, m: 3, far: 1, farM: 1, order: 7 })
    expect([...bytesOf(words)]).toEqual([0x57, 0x42, 0x55, 0x01])
    expect(decodeExact([3, 5], code, bytesOf(words))).toEqual(all)
    const moved = Array.from(all.steps, (step) => bitsOf(steppedValue(1, step, 'bf16')) >>> 16)
    expect(moved).toEqual([0x3f81, 0x3f7f, 0x40ac])
  })

  test('counts places block after block', () => {
    // Tiles of 64 x 64: the second starts behind 64 x 64 of the first, the third behind 64 x 6 of the second.
    const found: number[] = []
    const places = Uint32Array.of(0, 4095, 4096, 4096 + 6, 4096 + 384)
    forEachStep([66, 70], { places, steps: new Int32Array(5).fill(1) }, (index) => found.push(index))
    expect(found).toEqual([0, 63 * 70 + 63, 64, 70 + 64, 64 * 70])
  })

  test.each([0.002, 0.01, 0.05, 0.3])('at density %f is at most 1.03 times its entropy', (density) => {
    const weights = 2 ** 18
    const random = randomFrom(7)
    const { indices } = randomEntries(weights, density, 5)
    // As of reinforcement learning: nine in ten by one step, the others by a few.
    const magnitude = () => (random() < 0.9 ? 1 : 2 + Math.floor(-Math.log(random()) * 3))
    const places = Uint32Array.from(indices)
    const steps = Int32Array.from(places, () => (random() < 0.5 ? -1 : 1) * magnitude())
    const { words } = encodeExact('bf16', { places, steps })
    const counts = new Map<number, number>()
    for (const step of steps) counts.set(step, (counts.get(step) ?? 0) + 1)
    const kept = places.length
    const share = kept / weights
    let entropy = -weights * (share * Math.log2(share) + (1 - share) * Math.log2(1 - share))
    for (const count of counts.values()) entropy -= count * Math.log2(count / kept)
    expect((words.length * 32) / entropy).toBeLessThan(1.03)
  })

  test('broken anywhere is refused, or other steps in range', () => {
    const shape = [70, 130]
    const all = randomSteps(weightsOf(shape), 'bf16', 0.05, 3)
    const { words, ...code } = encodeExact('bf16', all)
    let refused = 0
    for (let i = 0; i < words.length; i++) {
      for (const value of [0, 0xffffffff, words[i] ^ 1]) {
        const changed = words.slice()
        changed[i] = value
        try {
          const found = decodeExact(shape, code, bytesOf(changed))
          for (const [n, place] of found.places.entries()) {
            if (place >= weightsOf(shape) || (n > 0 && place <= found.places[n - 1]))
              throw new Error('out of order')
            if (found.steps[n] === 0 || Math.abs(found.steps[n]) > 2 ** 15) throw new Error('out of range')
          }
        } catch (error) {
          expect(error).toMatchObject({ tag: 'format' })
          refused++
        }
      }
    }
    expect(refused).toBeGreaterThan(words.length)
  })
})

describe('the table', () => {
  const json = (change: object, bytes = 8) =>
    JSON.stringify({
      kind: 'expert',
      tensors: [{ name: 'w', shape: [3, 5], codec: 'exact', unit: 'bf16', kept: 3, m: 3, bytes, ...change }],
    })

  test.each([
    [{ kept: 0 }, 'kept'],
    [{ kept: 16 }, 'kept'],
    [{ unit: 'f64' }, 'unit'],
    [{ m: 2 ** 20 + 1 }, 'm'],
    [{ far: 4 }, 'far'],
    [{ far: 1, farM: 1 }, 'order'],
    [{ far: 1, order: 7 }, 'farM'],
    [{ far: 1, farM: 1, order: 32 }, 'order'],
    [{ roundedInF16: 4 }, 'roundedInF16'],
    [{ role: 'loraA' }, 'role'],
    [{ layout: 'embedding' }, 'layout'],
    [{ bytes: 0 }, 'bytes of w'],
    [{ bytes: 4096 }, 'bytes of w'],
  ])('refuses %j', async (change, field) => {
    expect(() => tableFromJson(json({ bytes: 4, ...change }), 4)).toThrow(field)
    expect(await tagThrownBy(() => tableFromJson(json({ bytes: 4, ...change }), 4))).toBe('format')
  })

  test('a file holds it, and a base does not', async () => {
    const all = { places: Uint32Array.of(2, 3, 10), steps: Int32Array.of(1, -1, 300) }
    const { words, ...code } = encodeExact('bf16', all)
    const spool = memorySpool()
    const writer = new TritWriter(spool)
    const tensor = { name: 'w', target: 'w', shape: [3, 5], role: 'delta', codec: 'exact', ...code } as const
    await writer.add({ ...tensor, roundedInF16: 1 }, words)
    const source = memorySource(spool.join(await writer.finish(PLAIN_TABLE)))
    const head = await readHead(source)
    expect(head.table.tensors).toEqual([{ ...tensor, roundedInF16: 1, bytes: 4, offset: 0 }])
    const values = decodeValues(head.table.tensors[0], await readSection(source, head, head.table.tensors[0]))
    expect([...values]).toEqual([0, 0, 1, -1, 0, 0, 0, 0, 0, 0, 300, 0, 0, 0, 0])
    await expect(writer.finish({ ...PLAIN_TABLE, kind: 'base' })).rejects.toThrow('a tensor as a base has')
  })
})
