import fc from 'fast-check'
import { expect, test } from 'vitest'
import { halvesToFloats } from '../../src/format/float16.ts'
import { tilingOf } from '../../src/format/index.ts'
import { mergedTensors, type ReferenceExpert } from '../../src/reference/index.ts'
import { baseOf, expertSets, expertsOf } from '../reference/sets.ts'
import { LONG } from '../tier.ts'
import { type Container, deltaOf, type Engine, engineFor } from './fixtures.ts'

/** Sets that are merged one after the other. */
const RUNS = LONG ? 40 : 6
/** A merge rounds a weight once for its whole-tensor changes and once for each delta, at most three here. */
const TOLERANCE = { float32: 1e-6, float16: 4 * 2 ** -11 }

function valuesOf(file: Container): ReferenceExpert {
  const { table } = file.head
  return { table, values: table.tensors.map(({ name }) => deltaOf(file, name)) }
}

/** A tensor in checkpoint order as it is in VRAM. */
async function readTensor({ weights }: Engine, name: string): Promise<Float32Array> {
  const [{ input, dtype, offset, rowStride, colStride }] = weights.placementsOf(name)
  const bytes = await weights.read(input)
  const raw = dtype === 'float32' ? new Float32Array(bytes) : halvesToFloats(new Uint16Array(bytes))
  const { rows, cols } = tilingOf(weights.shapeOf(name))
  return Float32Array.from({ length: rows * cols }, (_, flat) => {
    return raw[offset + Math.floor(flat / cols) * rowStride + (flat % cols) * colStride]
  })
}

test.each(['float32', 'float16'] as const)(
  'sets over every layout merge into %s weights as on the CPU, and go again',
  async (dtype) => {
    await fc.assert(
      fc.asyncProperty(
        expertSets(() => true),
        async (set) => {
          const { base, inputs } = await baseOf(set, dtype)
          const tensors = new Map(valuesOf(base).table.tensors.map(({ name }) => [name, deltaOf(base, name)]))
          const files = await expertsOf(set)
          const engine = await engineFor(base, inputs, 2 ** 22)
          try {
            const before = await engine.weights.checksum()
            const residents = await Promise.all(files.map(({ file }) => engine.load(file)))
            await engine.switcher.apply(files.map(({ weight }, i) => ({ expert: residents[i], weight })))
            const merged = mergedTensors(
              { tensors, shapeOf: (name) => engine.weights.shapeOf(name) },
              files.map(({ file, weight }) => ({ expert: valuesOf(file), weight })),
            )
            for (const [name, values] of tensors) {
              const wanted = merged.get(name) ?? values
              const found = await readTensor(engine, name)
              const off = wanted.map(
                (value, flat) => Math.abs(found[flat] - value) / Math.max(1, Math.abs(value)),
              )
              expect(Math.max(...off), name).toBeLessThan(TOLERANCE[dtype])
            }
            await engine.switcher.revert()
            expect(await engine.weights.checksum()).toBe(before)
          } finally {
            engine.destroy()
          }
        },
      ),
      { numRuns: RUNS, seed: 1 },
    )
  },
)
