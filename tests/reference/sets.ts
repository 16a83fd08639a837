/** Random sets of experts over a base with one module of every layout. */
import fc from 'fast-check'
import type { BaseBindings, HoistedInput, ModuleLayout } from '../../src/format/index.ts'
import { weightsOf } from '../../src/format/index.ts'
import {
  type Container,
  container,
  denseOf,
  type NewSection,
  placementOf,
  termsOf,
  ternaryOf,
} from '../gpu/fixtures.ts'
import { Random, randomEntries } from '../gpu/random.ts'

type Codec = 'ternary' | 'f16' | 'f32'

export interface Module {
  name: string
  layout: ModuleLayout
  /** Of its weight in the checkpoint; its bias, where it has one, is as long as its outputs. */
  shape: readonly number[]
  outputs: number
  /** What (IA)³ scales with `feedforward`. */
  inputs: number
  hasBias: boolean
  /** How the weight lies in its buffer. */
  placement: 'rows' | 'transposed'
}

/** What an expert has for one module. */
interface Adapters {
  delta?: Codec
  lora?: { rank: number; a: Codec; b: Codec }
  ia3?: { feedforward: boolean; codec: Codec }
  bias?: Codec
  /** Ternary rank-1 terms, so many. */
  terms?: number
}

export interface ExpertSet {
  modules: readonly Module[]
  experts: readonly { weight: number; adapters: readonly Adapters[] }[]
  seed: number
}

/** @param isPlaceable - whether a module may lie transposed in its buffer */
export function expertSets(isPlaceable: (layout: ModuleLayout) => boolean): fc.Arbitrary<ExpertSet> {
  const modules = fc.tuple(...(['linear', 'conv1d', 'conv2d', 'embedding'] as const).map(moduleOf))
  function moduleOf(layout: ModuleLayout): fc.Arbitrary<Module> {
    return fc
      .record({
        outputs: fc.integer({ min: 2, max: layout === 'conv2d' ? 12 : 80 }),
        inputs: fc.integer({ min: 2, max: layout === 'conv2d' ? 5 : 80 }),
        kernel: fc.constantFrom(1, 3),
        placement: fc.constantFrom<Module['placement']>(
          'rows',
          ...(isPlaceable(layout) ? (['transposed'] as const) : []),
        ),
        hasBias: layout === 'embedding' ? fc.constant(false) : fc.boolean(),
      })
      .map(({ kernel, ...module }) => {
        const { outputs, inputs } = module
        const matrix = layout === 'linear' ? [outputs, inputs] : [inputs, outputs]
        const shape = layout === 'conv2d' ? [outputs, inputs, kernel, kernel] : matrix
        return { ...module, name: layout, layout, shape }
      })
  }
  const codec = fc.constantFrom<Codec>('ternary', 'f16', 'f32')
  const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
  const adapters = fc.record({
    delta: maybe(codec),
    lora: maybe(fc.record({ rank: fc.integer({ min: 1, max: 5 }), a: codec, b: codec })),
    ia3: maybe(fc.record({ feedforward: fc.boolean(), codec })),
    bias: maybe(codec),
    terms: maybe(fc.integer({ min: 1, max: 5 })),
  })
  const expert = fc.record({
    weight: fc.constantFrom(1, 0.5, -0.75, 0),
    adapters: fc.array(adapters, { minLength: 4, maxLength: 4 }),
  })
  return fc.record({
    modules,
    experts: fc.array(expert, { minLength: 1, maxLength: 3 }),
    seed: fc.integer({ min: 0, max: 2 ** 31 }),
  })
}

/** The base of a set as a container, with the inputs that its tensors feed. */
export async function baseOf(
  { modules, seed }: ExpertSet,
  dtype: 'float32' | 'float16',
  bindings = true,
): Promise<{ base: Container; inputs: HoistedInput[] }> {
  const random = new Random(seed)
  const tensors = modules.flatMap(({ name, shape, outputs, hasBias, placement }) => [
    { name: `${name}.weight`, shape, placement },
    ...(hasBias ? [{ name: `${name}.bias`, shape: [outputs], placement: 'rows' as const }] : []),
  ])
  const inputs = tensors.map(({ name, shape, placement }): HoistedInput => {
    const [first, ...rest] = shape
    const dims = placement === 'rows' ? shape : [weightsOf(rest), first]
    return { name, dtype, dims, parts: [placementOf(name, shape, placement)] }
  })
  const sections = tensors.map(({ name, shape }) =>
    denseOf(name, shape, random.floats(weightsOf(shape), 0.5), 'f16'),
  )
  const table: BaseBindings | undefined = bindings ? { graphs: [{ file: 'model.onnx', inputs }] } : undefined
  return { base: await container('base', sections, table), inputs }
}

/** The experts of a set as containers; those that have nothing for any module are left out. */
export async function expertsOf({ modules, experts, seed }: ExpertSet) {
  const random = new Random(seed ^ 0x5eed)
  const files: { file: Container; weight: number }[] = []
  for (const { weight, adapters } of experts) {
    const sections = modules.flatMap((module, i) => sectionsOf(module, adapters[i], random))
    if (sections.length > 0) files.push({ file: await container('expert', sections), weight })
  }
  return files
}

function sectionsOf(
  module: Module,
  { delta, lora, ia3, bias, terms }: Adapters,
  random: Random,
): NewSection[] {
  const { name, layout, shape, outputs, inputs, hasBias } = module
  const target = `${name}.weight`
  const sections: NewSection[] = []
  const add = (
    suffix: string,
    size: readonly number[],
    codec: Codec,
    extra: Parameters<typeof denseOf>[4],
  ) => {
    const count = weightsOf(size)
    sections.push(
      codec === 'ternary'
        ? ternaryOf(`${name}.${suffix}`, size, randomEntries(count, 0.4, random), 0.125, extra)
        : denseOf(`${name}.${suffix}`, size, random.floats(count, 0.25), codec, extra),
    )
  }
  if (delta !== undefined) add('delta', shape, delta, { target })
  if (lora !== undefined) {
    const { rank, a, b } = lora
    const isConv = layout === 'conv2d'
    add('A', isConv ? [rank, ...shape.slice(1)] : [rank, inputs], a, { target, layout, role: 'loraA' })
    const sizes = isConv ? [outputs, rank, 1, 1] : [outputs, rank]
    add('B', sizes, b, { target, layout, role: 'loraB', scaling: random.pick([1, 2, 0.5]) })
  }
  if (ia3 !== undefined && layout !== 'embedding') {
    const { feedforward, codec } = ia3
    const length = feedforward ? inputs : outputs
    const linear = feedforward ? [1, length] : [length, 1]
    const size = layout === 'conv2d' ? [1, length, 1, 1] : linear
    add('ia3_l', size, codec, { target, layout, role: 'ia3', feedforward })
  }
  if (terms !== undefined) sections.push(termsOf(`${name}.terms`, shape, terms, random, { target, layout }))
  if (bias !== undefined && hasBias) add('db', [outputs], bias, { target: `${name}.bias` })
  return sections
}
