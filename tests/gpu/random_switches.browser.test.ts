import { expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import type { ResidentExpert } from '../../src/gpu/index.ts'
import { LONG } from '../tier.ts'
import { CLASSES, container, denseOf, engineFor, gpuOf, placementOf, ternaryOf, testGpu } from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

const SWITCHES = LONG > 1 ? 1000 : 100
const ROWS = 2048

/** The test of the switcher does the same on a small scale. */
test.runIf(LONG > 0).each(Object.keys(CLASSES) as (keyof typeof CLASSES)[])(
  `${SWITCHES} random switches and blends over ${(ROWS * 8192) / 2 ** 20} M weights end where they began, as on %s`,
  async (name) => {
    const random = new Random(9)
    const tensors: [string, number[], 'float32' | 'float16', 'rows' | 'transposed'][] = [
      ['wide', [ROWS, 4096], 'float32', 'transposed'],
      ['tall', [4096, ROWS], 'float16', 'rows'],
    ]
    const base = await container(
      'base',
      tensors.map(([name, shape]) => denseOf(name, shape, random.floats(shape[0] * shape[1]), 'f16')),
    )
    const inputs = tensors.map(([name, shape, dtype, layout]): HoistedInput => {
      return { name, dtype, dims: shape, parts: [placementOf(name, shape, layout)] }
    })
    const engine = await engineFor(base, inputs, undefined, gpuOf(await testGpu(), name))
    const residents: ResidentExpert[] = []
    for (let i = 0; i < 5; i++) {
      const density = random.pick([0.01, 0.05, 0.05, 0.2])
      const section = (name: string, shape: number[]) =>
        ternaryOf(name, shape, randomEntries(shape[0] * shape[1], density, random), 2 ** -8)
      const picked = tensors.filter((_, t) => i !== t)
      residents.push(
        await engine.load(
          await container(
            'expert',
            picked.map(([name, shape]) => section(name, shape)),
          ),
        ),
      )
    }
    const before = await engine.weights.checksum()
    for (let i = 0; i < SWITCHES; i++) {
      const size = random.pick([0, 1, 1, 1, 1, 2, 3])
      const set = Array.from({ length: size }, () => ({
        expert: random.pick(residents),
        weight: random.pick([1, 0.5, -2]),
      }))
      await engine.switcher.apply(set)
    }
    await engine.switcher.revert()
    expect(await engine.weights.checksum()).toBe(before)
    expect(engine.switcher.journalBytes).toBe(0)
    engine.destroy()
  },
)
