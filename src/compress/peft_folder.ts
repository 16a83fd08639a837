/**
 * A low-rank expert as the adapter that `peft` loads: the factors of ternary LoRA as they decode, terms as factors of rank p.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { decodeTermsOf } from '../format/codecs/index.ts'
import type { Terms } from '../format/codecs/terms_code.ts'
import { contributionsOf, type LowRank, type TermsDelta } from '../format/contributions.ts'
import type { TritHead } from '../format/head.ts'
import { readSection } from '../format/section.ts'
import type { ModuleLayout, TritTensor } from '../format/table.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { parseAdapterName } from './adapter_names.ts'
import { decodeTensor } from './decode.ts'
import type { TensorToWrite } from './safetensors.ts'

/** A file of the folder in the order in which it is written. */
export interface PeftFolder {
  /** `adapter_config.json`. */
  config: Record<string, unknown>
  /** `adapter_model.safetensors`. */
  tensors: readonly (TensorToWrite & { values(): Promise<Float32Array<ArrayBuffer>> })[]
}

/** One module, its scaling in B, its rank padded with zeros to that of the whole adapter. */
interface Module {
  path: string
  layout: ModuleLayout
  rank: number
  /** Shapes without the rank, which comes first in A and last in B. */
  inputs: readonly number[]
  outputs: number
  /** A [rank, inputs] and B [outputs, rank], row-major. */
  factors(): Promise<{ a: Float32Array; b: Float32Array }>
}

/** Prefix that peft gives the names of a model's modules. */
const PREFIX = 'base_model.model.'

/**
 * Plans the folder. A tensor is decoded when its values are asked for.
 * @throws {TritswapError} `unsupported` for an expert that is not of low rank alone
 */
export function peftFolder(source: ByteSource, head: TritHead, options?: ReadOptions): PeftFolder {
  const contributions = contributionsOf(head.table.tensors)
  const modules = contributions.map((contribution) => {
    if (contribution.kind === 'lowRank') return ofPair(contribution, source, head, options)
    if (contribution.kind === 'terms') return ofTerms(contribution, source, head, options)
    const { name } = contribution.tensor
    throw new TritswapError(
      'unsupported',
      `Cannot write ${source.name} for peft: ${name} is no LoRA pair and no terms; decode it without --peft`,
      { fields: { name: source.name, tensor: name } },
    )
  })
  const rank = Math.max(...modules.map((module) => module.rank))
  return {
    config: {
      peft_type: 'LORA',
      base_model_name_or_path: head.table.base.name ?? null,
      r: rank,
      lora_alpha: rank,
      lora_dropout: 0,
      bias: 'none',
      fan_in_fan_out: modules.some(({ layout }) => layout === 'conv1d'),
      inference_mode: true,
      init_lora_weights: true,
      target_modules: modules.map(({ path }) => path),
      ...(head.table.invocation && {
        task_type: 'CAUSAL_LM',
        alora_invocation_tokens: head.table.invocation,
      }),
    },
    tensors: modules.flatMap((module) => tensorsOf(module, rank)),
  }
}

function tensorsOf({ path, layout, outputs, inputs, factors, ...own }: Module, rank: number) {
  const isEmbedding = layout === 'embedding'
  const name = (factor: 'A' | 'B') =>
    `${PREFIX}${path}.${isEmbedding ? `lora_embedding_${factor}` : `lora_${factor}.weight`}`
  const kernel = layout === 'conv2d' ? inputs.slice(1).map(() => 1) : []
  return [
    {
      name: name('A'),
      dtype: 'F32' as const,
      shape: [rank, ...inputs],
      async values() {
        const { a } = await factors()
        const padded = new Float32Array((a.length / own.rank) * rank)
        padded.set(a)
        return padded
      },
    },
    {
      name: name('B'),
      dtype: 'F32' as const,
      shape: [outputs, rank, ...kernel],
      async values() {
        const { b } = await factors()
        const padded = new Float32Array(outputs * rank)
        for (let row = 0; row < outputs; row++)
          padded.set(b.subarray(row * own.rank, (row + 1) * own.rank), row * rank)
        return padded
      },
    },
  ]
}

function ofPair(
  { left, right, rank, scaling }: LowRank,
  source: ByteSource,
  head: TritHead,
  options?: ReadOptions,
): Module {
  const [a, b] = left.rankFirst ? [left, right] : [right, left]
  return {
    path: parseAdapterName(b.tensor.name).path,
    layout: b.tensor.layout ?? 'linear',
    rank,
    inputs: a.tensor.shape.slice(1),
    outputs: b.tensor.shape[0],
    async factors() {
      const values = await decodeTensor(source, head, b.tensor, options)
      return {
        a: await decodeTensor(source, head, a.tensor, options),
        b: values.map((value) => scaling * value),
      }
    },
  }
}

function ofTerms(
  { tensor, terms }: TermsDelta,
  source: ByteSource,
  head: TritHead,
  options?: ReadOptions,
): Module {
  const { name, shape, layout = 'linear' } = tensor
  const transposed = layout === 'conv1d' || layout === 'embedding'
  return {
    path: name.replace(/\.weight$/, ''),
    layout,
    rank: terms,
    inputs: transposed ? shape.slice(0, 1) : shape.slice(1),
    outputs: transposed ? shape[1] : shape[0],
    async factors() {
      const found = await termsIn(tensor, source, head, options)
      const { scales } = found
      // The weight is x · yᵀ, and B · A of its transpose where the module keeps it so.
      const [down, up] = transposed ? [found.x, found.y] : [found.y, found.x]
      const length = up.length / terms
      const b = new Float32Array(up.length)
      for (let t = 0; t < terms; t++)
        for (let row = 0; row < length; row++) b[row * terms + t] = scales[t] * up[t * length + row]
      return { a: Float32Array.from(down), b }
    },
  }
}

async function termsIn(
  tensor: TritTensor,
  source: ByteSource,
  head: TritHead,
  options?: ReadOptions,
): Promise<Terms> {
  return decodeTermsOf(tensor, await readSection(source, head, tensor, options))!
}
