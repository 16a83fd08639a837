/**
 * Tensor lists of real models, as a base and experts of random content.
 *
 * @module
 */
import type { HoistedInput } from '../../src/format/bindings.ts'
import {
  encodeTernary,
  memorySpool,
  parseHead,
  type TritTable,
  TritWriter,
  tilingOf,
  weightsOf,
} from '../../src/format/index.ts'
import { ExpertStore, type Gpu, type ResidentExpert, Switcher, WeightStore } from '../../src/gpu/index.ts'
import type { TargetDtype } from '../../src/gpu/target.ts'
import { randomEntries } from './random_entries.ts'

/** A tensor of a model. */
export interface ShapedTensor {
  name: string
  shape: readonly number[]
}

interface Llama {
  layers: number
  hidden: number
  keys: number
  intermediate: number
  /** Rows of the tied embedding, where an expert changes it and the norms; 0 for the matrices of the layers alone. */
  vocabulary: number
}

const MODELS = {
  /** The 168 matrices of Qwen2.5-0.5B: 358 M weights. */
  qwen: { layers: 24, hidden: 896, keys: 128, intermediate: 4864, vocabulary: 0 },
  /** All 272 tensors of SmolLM2-135M: 135 M weights. */
  smollm2: { layers: 30, hidden: 576, keys: 192, intermediate: 1536, vocabulary: 49_152 },
} as const satisfies Record<string, Llama>

/** One matrix with as many weights as those of Qwen2.5-0.5B. */
const SINGLE = { rows: 87_360, cols: 4096 }

export type ShapedModel = keyof typeof MODELS | 'single'

/** @param divisor - of every size, for a list that a test can afford */
export function shapesOf(model: ShapedModel, divisor = 1): ShapedTensor[] {
  if (model === 'single') {
    const [rows, cols] = [SINGLE.rows, SINGLE.cols].map((size) => Math.ceil(size / divisor))
    return [{ name: 'model.weight', shape: [rows, cols] }]
  }
  const { layers, ...sizes } = MODELS[model]
  const [hidden, keys, intermediate, vocabulary] = [
    sizes.hidden,
    sizes.keys,
    sizes.intermediate,
    sizes.vocabulary,
  ].map((size) => Math.ceil(size / divisor))
  const matrices: [string, number[]][] = [
    ['self_attn.q_proj', [hidden, hidden]],
    ['self_attn.k_proj', [keys, hidden]],
    ['self_attn.v_proj', [keys, hidden]],
    ['self_attn.o_proj', [hidden, hidden]],
    ['mlp.gate_proj', [intermediate, hidden]],
    ['mlp.up_proj', [intermediate, hidden]],
    ['mlp.down_proj', [hidden, intermediate]],
  ]
  const norms: [string, number[]][] = [
    ['input_layernorm', [hidden]],
    ['post_attention_layernorm', [hidden]],
  ]
  const parts = vocabulary > 0 ? [...matrices, ...norms] : matrices
  const tensors = Array.from({ length: layers }, (_, layer) =>
    parts.map(([name, shape]) => ({ name: `model.layers.${layer}.${name}.weight`, shape })),
  ).flat()
  if (vocabulary === 0) return tensors
  return [
    { name: 'model.embed_tokens.weight', shape: [vocabulary, hidden] },
    ...tensors,
    { name: 'model.norm.weight', shape: [hidden] },
  ]
}

export interface ShapedOptions {
  dtype: TargetDtype
  density: number
  /** How many experts. */
  experts: number
  /** What they change; all by default. */
  changed?: readonly ShapedTensor[]
}

export interface ShapedWorld {
  weights: WeightStore
  experts: ExpertStore
  switcher: Switcher
  residents: ResidentExpert[]
  destroy(): void
}

/** Weights of these shapes, each in a buffer of its own, and experts for them. */
export async function shapedWorld(
  gpu: Gpu,
  tensors: readonly ShapedTensor[],
  { dtype, density, experts: count, changed = tensors }: ShapedOptions,
): Promise<ShapedWorld> {
  const inputs = tensors.map(({ name, shape }): HoistedInput => {
    const { rows, cols } = tilingOf(shape)
    // As ONNX has matrices: [in, out].
    const part = { tensor: name, offset: 0, rowStride: rows > 1 ? 1 : cols, colStride: rows > 1 ? rows : 1 }
    return { name, dtype, dims: [weightsOf(shape)], parts: [part] }
  })
  const weights = await WeightStore.create({ gpu, inputs, table: baseTable(tensors) })
  const experts = await ExpertStore.create({ gpu, budgetBytes: 2 ** 30 })
  const switcher = await Switcher.create({ gpu, weights, experts })
  const residents: ResidentExpert[] = []
  for (let seed = 0; seed < count; seed++) {
    const { head, payload } = await expertContainer(changed, density, seed)
    const upload = await experts.begin(head)
    upload.write(0, payload)
    residents.push(await upload.finish())
  }
  return {
    weights,
    experts,
    switcher,
    residents,
    destroy() {
      switcher.destroy()
      experts.destroy()
      weights.destroy()
    },
  }
}

/** A base whose bytes never come: its buffers are zero as they are. */
function baseTable(tensors: readonly ShapedTensor[]): TritTable {
  const common = { role: 'delta', codec: 'dense', dtype: 'f16', offset: 0, bytes: 0 } as const
  return {
    kind: 'base',
    method: 'full',
    base: {},
    compression: {},
    sources: [],
    tensors: tensors.map(({ name, shape }) => ({ ...common, name, shape, target: name })),
  }
}

/** Matrices are ternary, vectors dense. */
async function expertContainer(tensors: readonly ShapedTensor[], density: number, seed: number) {
  const spool = memorySpool()
  const writer = new TritWriter(spool, { chunkLog2: 20 })
  // Tensors of one shape have the same entries: to encode all of them would take longer than to time them.
  const encoded = new Map<string, ReturnType<typeof encodeTernary>>()
  for (const { name, shape } of tensors) {
    const common = { name, shape, role: 'delta', target: name } as const
    const weights = weightsOf(shape)
    if (shape.length === 1) {
      await writer.add({ ...common, codec: 'dense', dtype: 'f32' }, new Float32Array(weights).fill(2 ** -8))
      continue
    }
    const key = shape.join()
    const code = encoded.get(key) ?? encodeTernary(shape, randomEntries(weights, density, seed))
    encoded.set(key, code)
    const { kept, m, lengthMin, lengthBits, words } = code
    await writer.add({ ...common, codec: 'ternary', kept, scale: 2 ** -8, m, lengthMin, lengthBits }, words)
  }
  const file = spool.join(
    await writer.finish({ kind: 'expert', method: 'full', base: {}, compression: {}, sources: [] }),
  )
  const head = await parseHead(file, 'bench')
  return { head, payload: file.subarray(head.headBytes) }
}
