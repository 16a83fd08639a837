/**
 * What is in a `.trit` file, and how close its size is to the entropy of its entries.
 *
 * @module
 */
import { summaryOf } from '../format/codecs/index.ts'
import type { FloatDtype } from '../format/dtype.ts'
import type { TritHead } from '../format/head.ts'
import type { StepUnit } from '../format/steps.ts'
import type { TritTensor } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { GenerationSettings } from '../source/generation_settings.ts'
import type { TermVectors } from './term_vectors.ts'
import { ternaryEntropy } from './ternary_entropy.ts'

export interface TensorInspection {
  name: string
  shape: readonly number[]
  codec: TritTensor['codec']
  role: string
  target: string
  weights: number
  /** Entries that are stored: all, unless the codec is sparse. */
  kept: number
  density: number
  /** Null unless the tensor is ternary. */
  scale: number | null
  /** Only dense and quantized tensors: how values, or the scales of quantized ones, are stored. */
  dtype?: FloatDtype
  /** Only quantized tensors: of an integer. */
  bits?: number
  /** Only lossless tensors: the type that their steps are counted in. */
  unit?: StepUnit
  /** Likewise: changed weights that are a rounding off where the base is held in f16. */
  roundedInF16?: number
  /** Only tensors of terms: how many rank-1 matrices add up to it. */
  terms?: number
  bytes: number
  entropyBytes: number
}

export interface Inspection {
  file: { name: string; bytes: number; rootHash: string }
  kind: string
  method: string
  /** The tokens that an activated LoRA acts from. */
  invocation?: readonly number[]
  label?: string
  description?: string
  prompt?: string
  system?: string
  generation?: GenerationSettings
  licence?: string
  createdWith?: string
  base: { name?: string; fingerprint?: string; sketched: boolean }
  compression: Record<string, unknown>
  sources: readonly { name: string; sha256?: string }[]
  totals: {
    weights: number
    kept: number
    headBytes: number
    payloadBytes: number
    /** Σ n·H(kept/n)/8 over ternary tensors and the vectors of terms, plus the sections of the others. */
    entropyBytes: number
    /** File size over that. */
    ratioToEntropy: number
    /** How many times smaller than the same tensors in f16, and in f32. */
    ratioToF16: number
    ratioToF32: number
    /** The vectors of all terms together, where there are any and their sections were read. */
    vectors?: TermVectors
  }
  tensors: TensorInspection[]
}

function inspectTensor(tensor: TritTensor, vectors: TermVectors | undefined): TensorInspection {
  const { name, shape, codec, role, target, bytes } = tensor
  const weights = weightsOf(shape)
  const common = { name, shape, codec, role, target, weights, bytes }
  const { kept, scale, ...stored } = summaryOf(tensor)
  const density = kept / weights
  const own = vectors === undefined ? bytes : bytes - vectors.bytes + vectors.entropyBytes
  const entropyBytes = scale === undefined ? own : (weights * ternaryEntropy(density)) / 8
  return { ...common, kept, density, scale: scale ?? null, ...stored, entropyBytes }
}

/**
 * Everything that the head tells; the payload is not read.
 * @param vectors - what {@link termVectors} found in it, where the file has terms: else their sections count as they are
 */
export function inspectHead(
  head: TritHead,
  name: string,
  vectors: ReadonlyMap<string, TermVectors> = new Map(),
): Inspection {
  const { table, rootHash, headBytes, payloadBytes } = head
  const {
    kind,
    method,
    invocation,
    label,
    description,
    prompt,
    system,
    generation,
    licence,
    createdWith,
    base,
    sources,
  } = table
  const tensors = table.tensors.map((tensor) => inspectTensor(tensor, vectors.get(tensor.name)))
  const sum = (of: (tensor: TensorInspection) => number) =>
    tensors.reduce((total, tensor) => total + of(tensor), 0)
  const bytes = headBytes + payloadBytes
  const weights = sum((tensor) => tensor.weights)
  const entropyBytes = sum((tensor) => tensor.entropyBytes)
  return {
    file: { name, bytes, rootHash },
    kind,
    method,
    invocation,
    label,
    description,
    prompt,
    system,
    generation,
    licence,
    createdWith,
    base: { name: base.name, fingerprint: base.fingerprint, sketched: base.sketch !== undefined },
    compression: { ...table.compression },
    sources,
    totals: {
      weights,
      kept: sum((tensor) => tensor.kept),
      headBytes,
      payloadBytes,
      entropyBytes,
      ratioToEntropy: bytes / entropyBytes,
      ratioToF16: (2 * weights) / bytes,
      ratioToF32: (4 * weights) / bytes,
      ...(vectors.size > 0 && { vectors: together([...vectors.values()]) }),
    },
    tensors,
  }
}

function together(vectors: readonly TermVectors[]): TermVectors {
  const sum = (of: (each: TermVectors) => number) => vectors.reduce((total, each) => total + of(each), 0)
  return {
    terms: sum(({ terms }) => terms),
    bytes: sum(({ bytes }) => bytes),
    entropyBytes: sum(({ entropyBytes }) => entropyBytes),
  }
}
