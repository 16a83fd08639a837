import type { BaseBindings, HoistedInput, Placement } from '../../src/format/bindings.ts'
import { floatsToHalves } from '../../src/format/float16.ts'
import {
  type BlocksCode,
  blocksLayout,
  decodeValues,
  encodeTerms,
  encodeTernary,
  memorySpool,
  parseHead,
  type TernaryEntries,
  type TritHead,
  type TritTensor,
  TritWriter,
  tilingOf,
} from '../../src/format/index.ts'
import type { NewTensorWithoutBytes } from '../../src/format/writer.ts'
import {
  ExpertStore,
  type Gpu,
  type ResidentExpert,
  requestGpu,
  Switcher,
  WeightStore,
} from '../../src/gpu/index.ts'
import type { Random } from './random.ts'

/** A tensor for a container: its table entry and its section. */
export interface NewSection {
  tensor: NewTensorWithoutBytes
  section: ArrayBufferView
}

type Extra = Partial<Pick<TritTensor, 'role' | 'target' | 'scaling' | 'layout' | 'feedforward'>>

export function ternaryOf(
  name: string,
  shape: readonly number[],
  entries: TernaryEntries,
  scale: number,
  extra: Extra = {},
): NewSection {
  const { kept, m, lengthMin, lengthBits, words } = encodeTernary(shape, entries)
  const common = { name, shape, role: 'delta' as const, target: name, ...extra }
  return { tensor: { ...common, codec: 'ternary', kept, scale, m, lengthMin, lengthBits }, section: words }
}

export function denseOf(
  name: string,
  shape: readonly number[],
  values: Float32Array<ArrayBuffer>,
  dtype: 'f16' | 'f32',
  extra: Extra = {},
): NewSection {
  const common = { name, shape, role: 'delta' as const, target: name, ...extra }
  return {
    tensor: { ...common, codec: 'dense', dtype },
    section: dtype === 'f16' ? floatsToHalves(values) : values,
  }
}

/** A tensor of ternary rank-1 terms with random vectors. */
export function termsOf(
  name: string,
  shape: readonly number[],
  terms: number,
  random: Random,
  extra: Extra = {},
): NewSection {
  const { rows, cols } = tilingOf(shape)
  const entries = (length: number) => Int8Array.from({ length }, () => random.integer(-1, 1))
  const vectors = { scales: random.floats(terms, 0.1), x: entries(terms * rows), y: entries(terms * cols) }
  const common = { name, shape, role: 'delta' as const, target: name, ...extra }
  return { tensor: { ...common, codec: 'terms', terms }, section: encodeTerms(shape, vectors) }
}

/** A quantized tensor with random integers, scales and zero points. */
export function blocksOf(
  name: string,
  shape: readonly number[],
  code: BlocksCode,
  random: Random,
  extra: Extra = {},
): NewSection {
  const { components, bytes } = blocksLayout(shape, code)
  const section = new Uint8Array(bytes)
  for (const [component, { offset, bytes: length, elementBytes }] of Object.entries(components)) {
    const values =
      elementBytes === 1
        ? Uint8Array.from({ length }, () => random.integer(0, 255))
        : random.floats(length / elementBytes, component === 'scales' ? 0.05 : 4)
    const stored = values instanceof Float32Array && elementBytes === 2 ? floatsToHalves(values) : values
    section.set(new Uint8Array(stored.buffer), offset)
  }
  const common = { name, shape, role: 'delta' as const, target: name, ...extra }
  return { tensor: { ...common, codec: 'blocks', ...code }, section }
}

export interface Container {
  head: TritHead
  payload: Uint8Array<ArrayBuffer>
  file: Uint8Array<ArrayBuffer>
}

/** A container as it would come from a file. */
export async function container(
  kind: 'base' | 'expert',
  sections: readonly NewSection[],
  bindings?: BaseBindings,
): Promise<Container> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  for (const { tensor, section } of sections) await writer.add(tensor, section)
  const bytes = await writer.finish({
    kind,
    method: 'full',
    base: {},
    compression: {},
    sources: [],
    bindings,
  })
  const file = spool.join(bytes)
  const head = await parseHead(file, 'test')
  return { head, payload: file.slice(head.headBytes), file }
}

/** What an expert adds to a tensor, in flat order, by the reference decoder. */
export function deltaOf({ head, payload }: Container, name: string): Float32Array<ArrayBuffer> {
  const tensor = head.table.tensors.find((tensor) => tensor.name === name)!
  const bytes = payload.slice(tensor.offset, tensor.offset + tensor.bytes)
  return decodeValues(tensor, bytes)
}

/** One GPU for all tests of a file. */
let shared: Promise<Gpu> | undefined
export function testGpu(): Promise<Gpu> {
  shared ??= requestGpu()
  return shared
}

/** The classes of adapters that kernels are made for: tests run both on whatever there is. */
export const CLASSES = { 'a CPU that plays GPU': true, 'a GPU': false } as const

/** A GPU that is taken for one of a class. */
export function gpuOf(gpu: Gpu, name: keyof typeof CLASSES): Gpu {
  return { ...gpu, adapter: { ...gpu.adapter, software: CLASSES[name] } }
}

/** How a tensor lies in its input of the graph. */
export type Layout = 'rows' | 'transposed'

export function placementOf(name: string, shape: readonly number[], layout: Layout): Placement {
  const { rows, cols } = tilingOf(shape)
  return layout === 'rows'
    ? { tensor: name, offset: 0, rowStride: cols, colStride: 1 }
    : { tensor: name, offset: 0, rowStride: 1, colStride: rows }
}

export interface Engine {
  gpu: Gpu
  weights: WeightStore
  experts: ExpertStore
  switcher: Switcher
  load(expert: Container): Promise<ResidentExpert>
  destroy(): void
}

/** Weights, experts and a switcher over one base container. */
export async function engineFor(
  base: Container,
  inputs: readonly HoistedInput[],
  budgetBytes = 2 ** 28,
  gpu?: Gpu,
): Promise<Engine> {
  gpu ??= await testGpu()
  const weights = await WeightStore.create({ gpu, inputs, table: base.head.table })
  const experts = await ExpertStore.create({ gpu, budgetBytes })
  const switcher = await Switcher.create({ gpu, weights, experts })
  await weights.write(0, base.payload)
  return {
    gpu,
    weights,
    experts,
    switcher,
    async load({ head, payload }) {
      const upload = await experts.begin(head)
      upload.write(0, payload)
      return upload.finish()
    },
    destroy() {
      switcher.destroy()
      experts.destroy()
      weights.destroy()
    },
  }
}
