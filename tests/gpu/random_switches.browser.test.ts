import { expect, test } from 'vitest'
import { LONG } from '../tier.ts'
import { CLASSES, gpuOf, testGpu } from './fixtures.ts'
import { randomSwitches } from './random_switches.ts'

const SWITCHES = [15, 200, 2000][LONG] ?? 2000
/** Each takes half a minute on a software adapter. */
const LARGE_SWITCHES = [0, 4, 100][LONG] ?? 100
/** ms for kernels to compile, those for lists too, and for the switches of the long tiers. */
const TIMEOUT = LONG > 0 ? 3_600_000 : 120_000

/** Most of the time is that of compiling kernels: the quick tier takes one class, and one type of weights. */
const SOME_CLASSES = (Object.keys(CLASSES) as (keyof typeof CLASSES)[]).slice(0, LONG > 0 ? 2 : 1)

test.each(SOME_CLASSES)(
  `${SWITCHES} random switches among sets of every codec, on weights of every form, as on %s`,
  async (name) => {
    const gpu = gpuOf(await testGpu(), name)
    const dtype = LONG > 0 ? undefined : 'float32'
    expect(await randomSwitches(gpu, { seed: 20, switches: SWITCHES, size: 64, dtype })).toEqual([])
  },
  TIMEOUT,
)

test.runIf(LARGE_SWITCHES > 0).each(Object.keys(CLASSES) as (keyof typeof CLASSES)[])(
  `${LARGE_SWITCHES} random switches over 24 M weights, as on %s`,
  async (name) => {
    const gpu = gpuOf(await testGpu(), name)
    expect(await randomSwitches(gpu, { seed: 9, switches: LARGE_SWITCHES, size: 1024 })).toEqual([])
  },
  TIMEOUT,
)
