/** Random walks over sets of experts of every codec, on weights of every form. */
import type { HoistedInput } from '../../src/format/bindings.ts'
import { tilingOf, weightsOf } from '../../src/format/index.ts'
import type { Gpu, ResidentExpert, SetEntry } from '../../src/gpu/index.ts'
import {
  blocksOf,
  container,
  denseOf,
  engineFor,
  type Layout,
  type NewSection,
  placementOf,
  termsOf,
  ternaryOf,
} from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

type Dtype = HoistedInput['dtype'] & ('float32' | 'float16')

/** How a base has a tensor: as it comes in the file, and where it lies. */
interface Weight {
  name: string
  shape: readonly number[]
  section(random: Random): NewSection
  lies: readonly (readonly [Dtype, Layout])[]
}

const dense = (dtype: 'f16' | 'f32') => (name: string, shape: readonly number[], random: Random) =>
  denseOf(name, shape, random.floats(weightsOf(shape)), dtype)
const blocks =
  (code: Parameters<typeof blocksOf>[2]) => (name: string, shape: readonly number[], random: Random) =>
    blocksOf(name, shape, code, random)

/** @param size - of the matrices; a multiple of 64 */
function weightsOfBase(size: number): Weight[] {
  const wide = [size, size * 2]
  const all: [string, readonly number[], ReturnType<typeof dense>, Weight['lies']][] = [
    ['f32', wide, dense('f32'), [['float32', 'rows']]],
    ['f16', wide, dense('f16'), [['float16', 'transposed']]],
    ['f16 in f32', [size - 3, size + 5], dense('f16'), [['float32', 'transposed']]],
    ['f32 in f16', [size + 1, size - 1], dense('f32'), [['float16', 'rows']]],
    [
      'in two places',
      [size, size],
      dense('f32'),
      [
        ['float16', 'rows'],
        ['float32', 'transposed'],
      ],
    ],
    [
      'q4 with minimums',
      wide,
      blocks({ bits: 4, blockSize: 32, dtype: 'f16', minimums: true }),
      [['float32', 'transposed']],
    ],
    [
      'q4 with zero points',
      wide,
      blocks({ bits: 4, blockSize: 128, dtype: 'f16', zeroPoints: 'packed' }),
      [
        ['float16', 'rows'],
        ['float16', 'transposed'],
      ],
    ],
    ['q4 of f32', [size, size], blocks({ bits: 4, blockSize: 32, dtype: 'f32' }), [['float32', 'rows']]],
    [
      'q4 with floats as zero points, odd',
      [size - 1, size + 9],
      blocks({ bits: 4, blockSize: 16, dtype: 'f16', zeroPoints: 'float' }),
      [['float16', 'rows']],
    ],
    [
      'q4 transposed',
      wide,
      blocks({ bits: 4, blockSize: 64, dtype: 'f16', transposed: true }),
      [['float32', 'rows']],
    ],
    ['q8', [size, size], blocks({ bits: 8, blockSize: 32, dtype: 'f16' }), [['float16', 'transposed']]],
    ['q2', [size, size], blocks({ bits: 2, blockSize: 32, dtype: 'f16' }), [['float32', 'transposed']]],
    ['norm', [size * 2], dense('f16'), [['float32', 'rows']]],
    ['bias', [size + 1], dense('f32'), [['float16', 'rows']]],
  ]
  return all.map(([name, shape, make, lies]) => ({
    name,
    shape,
    lies,
    section: (random) => make(name, shape, random),
  }))
}

const KINDS = ['ternary', 'dense f16', 'dense f32', 'lora', 'ternary lora', 'terms', 'ia3'] as const
type Kind = (typeof KINDS)[number]

/** What an expert of a kind has for a tensor; nothing where it can have none. */
function change(kind: Kind, { name, shape }: Weight, random: Random): NewSection[] {
  const { rows, cols } = tilingOf(shape)
  const count = rows * cols
  const extra = { target: name, layout: 'linear' } as const
  if (kind === 'ternary')
    return [
      ternaryOf(name, shape, randomEntries(count, random.pick([0.01, 0.05, 0.5]), random), 2 ** -8, {
        target: name,
      }),
    ]
  if (kind === 'dense f16' || kind === 'dense f32')
    return [
      denseOf(`${name}.${kind}`, shape, random.floats(count, 0.01), kind === 'dense f16' ? 'f16' : 'f32', {
        target: name,
      }),
    ]
  if (shape.length === 1) return []
  if (kind === 'terms') return [termsOf(`${name}.terms`, shape, random.integer(1, 5), random, extra)]
  if (kind === 'ia3') {
    const feedforward = random.bits() % 2 === 0
    const size = feedforward ? [1, cols] : [rows, 1]
    return [
      denseOf(`${name}.ia3`, size, random.floats(feedforward ? cols : rows), 'f32', {
        ...extra,
        role: 'ia3',
        feedforward,
      }),
    ]
  }
  const rank = random.integer(1, 6)
  const factor = (suffix: string, size: number[], more: object) =>
    kind === 'lora'
      ? denseOf(name + suffix, size, random.floats(size[0] * size[1], 0.1), 'f16', { ...extra, ...more })
      : ternaryOf(name + suffix, size, randomEntries(size[0] * size[1], 0.4, random), 0.125, {
          ...extra,
          ...more,
        })
  return [
    factor('.A', [rank, cols], { role: 'loraA' }),
    factor('.B', [rows, rank], { role: 'loraB', scaling: 0.5 }),
  ]
}

/** Tensors of an expert: of one kind for all weights, or of one or two of any kind for some of them. */
function sectionsOf(weights: readonly Weight[], kind: Kind | 'mixed', random: Random): NewSection[] {
  if (kind !== 'mixed') return weights.flatMap((weight) => change(kind, weight, random))
  return weights.flatMap((weight) => {
    const kinds = new Set(Array.from({ length: random.integer(0, 2) }, () => random.pick(KINDS)))
    // A tensor has one delta at most, and one pair.
    const isDelta = (kind: Kind) => kind === 'ternary' || kind.startsWith('dense')
    const [delta] = [...kinds].filter(isDelta)
    const [pair] = [...kinds].filter((kind) => kind.endsWith('lora'))
    return [...kinds]
      .filter((kind) => (!isDelta(kind) || kind === delta) && (!kind.endsWith('lora') || kind === pair))
      .flatMap((kind) => change(kind, weight, random))
  })
}

export interface Walk {
  seed: number
  switches: number
  size: number
  /** Of the weights; both by default. */
  dtype?: Dtype
}

/**
 * Walks among sets of experts, and says what is wrong: each set must have the same weights however it was reached, and the base
 * must come back.
 */
export async function randomSwitches(gpu: Gpu, { seed, switches, size, dtype }: Walk): Promise<string[]> {
  const random = new Random(seed)
  const base = weightsOfBase(size).flatMap((weight) => {
    const lies = weight.lies.filter(([own]) => dtype === undefined || own === dtype)
    return lies.length === 0 ? [] : [{ ...weight, lies }]
  })
  const file = await container(
    'base',
    base.map((weight) => weight.section(random)),
  )
  const inputs = base.flatMap(({ name, shape, lies }) =>
    lies.map(([dtype, layout], i): HoistedInput => {
      const dims = [weightsOf(shape)]
      return { name: `${name} ${i}`, dtype, dims, parts: [placementOf(name, shape, layout)] }
    }),
  )
  const engine = await engineFor(file, inputs, undefined, gpu)
  const { weights, switcher } = engine
  const wrong: string[] = []
  try {
    const experts: ResidentExpert[] = []
    for (const kind of [...KINDS, 'mixed', 'mixed', 'mixed'] as const)
      experts.push(await engine.load(await container('expert', sectionsOf(base, kind, random))))
    const sets = Array.from({ length: 16 }, (_, i): SetEntry[] =>
      Array.from({ length: i < experts.length ? 1 : random.integer(2, 3) }, (_, at) => ({
        expert: i < experts.length ? experts[i] : experts[random.integer(0, experts.length - 1)],
        weight: at === 0 ? 1 : random.pick([1, 0.5, -2]),
      })),
    )
    sets.push([])
    const sums = new Map<SetEntry[], string>([[sets[sets.length - 1], await weights.checksum()]])
    let before = sets.length - 1
    for (let i = 0; i < switches; i++) {
      const next = random.integer(0, sets.length - 1)
      await switcher.apply(sets[next])
      const sum = await weights.checksum()
      const wanted = sums.get(sets[next]) ?? sum
      if (sum !== wanted) wrong.push(`switch ${i}, from set ${before} to ${next}: ${sum}, not ${wanted}`)
      sums.set(sets[next], wanted)
      before = next
    }
    if (new Set(sums.values()).size < sums.size) wrong.push('two sets have the same weights')
    await switcher.revert()
    if ((await weights.checksum()) !== sums.get(sets[sets.length - 1])) wrong.push('the base is not back')
    if (switcher.journalBytes + switcher.copyBytes > 0) wrong.push('something is kept for the base')
  } finally {
    engine.destroy()
  }
  return wrong
}
