/**
 * Whole models on this GPU: their tensors' shapes with random content, as large as the VRAM that the visitor allows.
 *
 * @module
 */
import type { ShapedCase } from '../bench/kernels/shaped.ts'
import { type ShapedModel, shapesOf } from '../bench/kernels/shapes.ts'
import { weightsOf } from '../src/format/index.ts'

export const MODELS = [
  { model: 'qwen', name: 'Qwen2.5-0.5B' },
  { model: 'smollm2', name: 'SmolLM2-135M' },
] as const satisfies readonly { model: ShapedModel; name: string }[]

/** What the page offers, in MB. */
export const VRAM_CHOICES = [64, 256, 1024, 2048]

/** Bytes of a weight in f16, and a third more: two experts, and what both of them and a mix displace. */
const BYTES_OF_WEIGHT = 2 * (4 / 3)
/** The smallest list is the model with every size divided by the last one. */
const DIVISORS = [1, 2, 4, 8, 16, 32]

/** What a model of this list came to. */
export interface ModelFigures {
  name: string
  divisor: number
  tensors: number
  weights: number
  cases: readonly Pick<ShapedCase, 'switch' | 'dispatches' | 'encodeMs' | 'gpuMs' | 'totalMs'>[]
}

/** The least that the sizes of a model are divided by so that its list fits, experts and journals with it. @param limit - bytes of VRAM */
export function divisorFor(model: ShapedModel, limit: number): number {
  return DIVISORS.find((divisor) => bytesOf(model, divisor) <= limit) ?? DIVISORS[DIVISORS.length - 1]
}

function bytesOf(model: ShapedModel, divisor: number): number {
  return shapesOf(model, divisor).reduce((sum, { shape }) => sum + weightsOf(shape) * BYTES_OF_WEIGHT, 0)
}

export function figuresOf(name: string, divisor: number, cases: readonly ShapedCase[]): ModelFigures {
  const [{ tensors, weights }] = cases
  return { name, divisor, tensors, weights, cases }
}

/** What the list is, in words. */
export function listOf({ divisor, tensors, weights }: ModelFigures): string {
  const size = `${tensors} tensors, ${(weights / 1e6).toFixed(1)} M weights in f16`
  return divisor === 1 ? size : `${size} (every size divided by ${divisor})`
}

/** Time of a switch, ms: the GPU's, where it says. */
export function timeOf({ gpuMs, totalMs }: ModelFigures['cases'][number]): number {
  return gpuMs ?? totalMs
}
