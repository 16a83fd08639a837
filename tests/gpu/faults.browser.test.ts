import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { weightsOf } from '../../src/format/index.ts'
import { readBuffer } from '../../src/gpu/batch.ts'
import { type ResidentExpert, requestGpu, type SetEntry, Unpacker } from '../../src/gpu/index.ts'
import { LONG } from '../tier.ts'
import { type Fault, type FaultyGpu, faultsOf, faultyGpu } from './faulty_device.ts'
import {
  blocksOf,
  type CLASSES,
  container,
  denseOf,
  type Engine,
  engineFor,
  gpuOf,
  placementOf,
  termsOf,
  ternaryOf,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

/** The faults that are tried, of each kind of work. */
const FAULTS_TRIED = [10, 100, Infinity][LONG] ?? Infinity
/** The calls in which the device is lost, of each kind of work; a new one takes seconds to compile its kernels. */
const LOSSES_TRIED = [1, 5, Infinity][LONG] ?? Infinity

/** ms for kernels to compile, those for lists too, on a software adapter. */
const KERNELS_TIMEOUT = 300_000

const random = new Random(18)
/** The last two came in blocks, which the weights are made anew from; copies are kept of the first. */
const SHAPES: [string, number[]][] = [
  ['one', [40, 30]],
  ['two', [30, 50]],
  ['three', [24, 64]],
  ['four', [20, 32]],
]
const base = await container(
  'base',
  SHAPES.map(([name, shape], i) =>
    i < 2
      ? denseOf(name, shape, random.floats(weightsOf(shape)), 'f16')
      : blocksOf(name, shape, { bits: 4, blockSize: 32, dtype: 'f16', minimums: true }, random),
  ),
)
const inputs = SHAPES.map(([name, shape], i): HoistedInput => {
  const dtype = i % 2 === 0 ? 'float32' : 'float16'
  return { name, dtype, dims: shape, parts: [placementOf(name, shape, 'rows')] }
})

const ternary = () =>
  container(
    'expert',
    SHAPES.map(([name, shape]) =>
      ternaryOf(name, shape, randomEntries(weightsOf(shape), 0.2, random), 2 ** -7),
    ),
  )
const dense = () =>
  container(
    'expert',
    SHAPES.map(([name, shape]) => denseOf(name, shape, random.floats(weightsOf(shape), 0.01), 'f16')),
  )
const lora = () =>
  container(
    'expert',
    SHAPES.flatMap(([target, [outs, ins]]) => [
      denseOf(`${target}.A`, [3, ins], random.floats(3 * ins, 0.1), 'f16', {
        target,
        role: 'loraA',
        layout: 'linear',
      }),
      denseOf(`${target}.B`, [outs, 3], random.floats(outs * 3, 0.1), 'f16', {
        target,
        role: 'loraB',
        layout: 'linear',
      }),
    ]),
  )
/** Two terms of a tensor are added on the way from its blocks, more of them on top of what was made of those. */
const terms = (count: number) =>
  container(
    'expert',
    SHAPES.map(([name, shape]) => termsOf(name, shape, count, random)),
  )
const FILES = {
  a: await ternary(),
  b: await ternary(),
  dense: await dense(),
  lora: await lora(),
  lora2: await lora(),
  terms: await terms(2),
  terms2: await terms(3),
}
type Name = keyof typeof FILES

/** From one set to another. */
const SWITCHES: Record<string, [Name[], Name[]]> = {
  apply: [[], ['a']],
  revert: [['a'], []],
  fused: [['a'], ['b']],
  blend: [['b'], ['a', 'b']],
  dense: [[], ['dense']],
  'whole tensors': [['lora'], ['lora2']],
  terms: [['terms'], ['terms2']],
  'terms, to the base': [['terms2'], []],
  mixed: [
    ['lora', 'a', 'terms'],
    ['b', 'dense', 'lora2', 'terms2'],
  ],
}

let faulty: FaultyGpu
let engine: Engine
let residents: Record<Name, ResidentExpert>
let before: string

async function start(name: keyof typeof CLASSES = 'a CPU that plays GPU') {
  faulty = faultyGpu(gpuOf(await requestGpu(), name))
  engine = await engineFor(base, inputs, undefined, faulty.gpu)
  before = await engine.weights.checksum()
  const loaded = Object.entries(FILES).map(async ([name, file]) => [name, await engine.load(file)] as const)
  residents = Object.fromEntries(await Promise.all(loaded)) as typeof residents
}

const setOf = (names: readonly Name[]): SetEntry[] =>
  names.map((name, i) => ({ expert: residents[name], weight: 1 - i / 4 }))

/** Some of the faults, other ones in the next commit that changes how many there are. */
function some(faults: readonly Fault[]): Fault[] {
  if (FAULTS_TRIED >= faults.length) return [...faults]
  const picked = new Random(faults.length)
  return Array.from({ length: FAULTS_TRIED }, () => picked.pick(faults))
}

beforeAll(() => start(), KERNELS_TIMEOUT)
afterAll(() => {
  engine.destroy()
  faulty.gpu.device.destroy()
})

/** Calls that only measure. */
const MEASURING = ['createQuerySet', 'mapAsync', 'onSubmittedWorkDone']

/** Makes a switch fail at some of its calls, one after the other; or at those that measure it, which fail nothing. */
async function failSwitch(from: readonly Name[], to: readonly Name[], measuring = false) {
  const { switcher, weights } = engine
  const change = () => (measuring ? switcher.measure(setOf(to)) : switcher.apply(setOf(to)))
  await switcher.apply(setOf(from))
  const old = await weights.checksum()
  // What was kept for the next switch would spare it the calls that are to fail.
  switcher.trim()
  faulty.arm()
  await change()
  const { calls } = faulty
  const faults = faultsOf(calls)
  const wanted = await weights.checksum()
  expect(wanted).not.toBe(old)
  let failures = 0
  const tried = measuring ? faults.filter(({ n }) => MEASURING.includes(calls[n])) : some(faults)
  for (const fault of tried) {
    await switcher.apply(setOf(from))
    switcher.trim()
    faulty.arm(fault)
    const error = await change().catch((error: unknown) => error)
    faulty.arm()
    const failed = error instanceof Error
    if (failed) failures++
    if (failed) expect(error, JSON.stringify(fault)).toSatisfy(isTritswapError)
    if (failed && fault.kind === 'memory') expect(error).toMatchObject({ tag: 'memory' })
    expect({ fault, set: switcher.current }).toEqual({ fault, set: setOf(failed ? from : to) })
    expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: failed ? old : wanted })
    await switcher.apply(setOf(to))
    expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: wanted })
    await switcher.revert()
    expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: before })
    expect(switcher.journalBytes + switcher.copyBytes).toBe(0)
    expect(Object.values(residents).map(({ references }) => references)).toEqual(
      Object.values(residents).map(() => 1),
    )
  }
  if (measuring) expect(failures).toBe(0)
  else expect(failures).toBeGreaterThan(tried.length / 4)
}

describe('a device that refuses a call', () => {
  test.each(Object.entries(SWITCHES))('leaves the old set or the new one, whole: %s', (_, [from, to]) =>
    failSwitch(from, to),
  )

  test('decides nothing where it refuses to measure', () => failSwitch(['a'], ['b'], true))

  test('leaves no part of an expert', async () => {
    const { experts, switcher, weights } = engine
    await switcher.apply(setOf(['a']))
    const wanted = await weights.checksum()
    const room = { ...FILES.a }
    faulty.arm()
    ;(await engine.load(room)).release()
    for (const fault of some(faultsOf(faulty.calls))) {
      const { bytes } = experts.stats()
      faulty.arm(fault)
      const loaded = await engine.load(room).catch((error: unknown) => error)
      faulty.arm()
      if (loaded instanceof Error) {
        expect(loaded, JSON.stringify(fault)).toSatisfy(isTritswapError)
        expect(experts.stats().bytes).toBe(bytes)
      }
      const again = loaded instanceof Error ? await engine.load(room) : (loaded as ResidentExpert)
      // What is active was moved in the arena, and what was loaded works.
      expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: wanted })
      await switcher.apply([{ expert: again, weight: 1 }])
      expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: wanted })
      await switcher.apply(setOf(['a']))
      again.release()
    }
    await switcher.revert()
    expect(await weights.checksum()).toBe(before)
  })

  test('fills the base right or not at all', async () => {
    faulty.arm()
    ;(await engineFor(base, inputs, undefined, faulty.gpu)).destroy()
    for (const fault of some(faultsOf(faulty.calls))) {
      faulty.arm(fault)
      const opened = await engineFor(base, inputs, undefined, faulty.gpu).catch((error: unknown) => error)
      faulty.arm()
      if (opened instanceof Error) {
        expect(opened, JSON.stringify(fault)).toSatisfy(isTritswapError)
        continue
      }
      const { weights, destroy } = opened as Engine
      expect({ fault, sum: await weights.checksum() }).toEqual({ fault, sum: before })
      destroy()
    }
  })

  test('unpacks an expert right or not at all', async () => {
    const unpacker = await Unpacker.create({ gpu: faulty.gpu, experts: engine.experts })
    const unpack = async () => {
      const part = { expert: residents.a, index: 0, offset: 0, rowStride: 30, colStride: 1 }
      const [buffer] = await unpacker.unpack([
        { kind: 'floats', dtype: 'float32', count: 1200, from: 1, parts: [{ ...part, weight: 1 }] },
      ])
      return buffer
    }
    const bytes = async (buffer: GPUBuffer) =>
      new Uint8Array(await readBuffer(faulty.gpu, buffer, 0, buffer.size)).join()
    const wanted = await bytes(await unpack())
    faulty.arm()
    await unpack()
    for (const fault of some(faultsOf(faulty.calls))) {
      faulty.arm(fault)
      const buffer = await unpack().catch((error: unknown) => error)
      faulty.arm()
      if (buffer instanceof Error) expect(buffer, JSON.stringify(fault)).toSatisfy(isTritswapError)
      else expect((await bytes(buffer as GPUBuffer)) === wanted, JSON.stringify(fault)).toBe(true)
    }
  })
})

test('a device that is lost ends every call with an error that says so', async () => {
  const losses = (calls: number) => {
    const tried = Math.min(calls, LOSSES_TRIED)
    return Array.from({ length: tried }, (_, i) => Math.floor(((i + 0.5) * calls) / tried))
  }
  const lostIn = async (what: string, prepare: () => Promise<void>, call: () => Promise<unknown>) => {
    await prepare()
    faulty.arm()
    await call()
    for (const n of losses(faulty.calls.length)) {
      await prepare()
      faulty.arm({ n, kind: 'lost' })
      const error = await call().catch((error: unknown) => error)
      await faulty.gpu.device.lost
      const later = await engine.switcher.apply(setOf(['b'])).catch((error: unknown) => error)
      expect({ what, n, later }).toMatchObject({ what, n, later: { tag: 'device-lost' } })
      if (error instanceof Error) expect({ what, n, error }).toMatchObject({ error: { tag: 'device-lost' } })
      await expect(engine.weights.checksum()).rejects.toMatchObject({ tag: 'device-lost' })
      await expect(engine.load(FILES.a)).rejects.toMatchObject({ tag: 'device-lost' })
      await start()
    }
  }
  await lostIn(
    'switch',
    async () => void (await engine.switcher.apply(setOf(['lora', 'a']))),
    () => engine.switcher.measure(setOf(['b', 'lora2', 'terms2'])),
  )
  await lostIn(
    'load',
    async () => {},
    () => engine.load(FILES.b),
  )
})

describe('a device that refuses a call of a dispatch with many tensors', () => {
  beforeAll(async () => {
    engine.destroy()
    await start('a GPU')
  }, KERNELS_TIMEOUT)

  test.each(LONG ? Object.keys(SWITCHES) : ['fused', 'mixed'])(
    'leaves the old set or the new one, whole: %s',
    (name) => failSwitch(...SWITCHES[name]),
  )
})
