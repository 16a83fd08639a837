/**
 * Task vectors in memory, and the ways to thin them out that the tables compare.
 *
 * @module
 */

import { openPath } from '../src/cli/file_source.ts'
import { openCheckpoint } from '../src/compress/checkpoint.ts'
import { readFloats } from '../src/compress/safetensors.ts'
import type { WeightChange } from '../src/reference/index.ts'

/** What a fine-tuning added to each tensor that it moved, in checkpoint order. */
export type Deltas = ReadonlyMap<string, { shape: readonly number[]; values: Float32Array<ArrayBuffer> }>

/** Fine-tuned minus base. */
export async function deltasOf(base: string, finetuned: string): Promise<Deltas> {
  const [from, to] = await Promise.all(
    [base, finetuned].map(async (path) => openCheckpoint(await openPath(path))),
  )
  const deltas = new Map<string, { shape: readonly number[]; values: Float32Array<ArrayBuffer> }>()
  for (const [name, tensor] of to.tensors) {
    const before = await readFloats(from.tensors.get(name)!)
    const values = (await readFloats(tensor)).map((value, i) => value - before[i])
    if (values.some((value) => value !== 0)) deltas.set(name, { shape: tensor.shape, values })
  }
  return deltas
}

/** The base with deltas added. */
export function addedTo(deltas: Deltas): WeightChange {
  return {
    targets: deltas,
    valuesOf: async (target, own) => {
      const { values } = deltas.get(target)!
      return own.map((value, i) => value + values[i])
    },
  }
}

/** What a rule makes of one matrix of a task vector. */
export type Rule = (tau: Float32Array<ArrayBuffer>, density: number) => Float32Array<ArrayBuffer>

/** Applies a rule to all matrices; vectors, a thousandth of the weights, stay as they are. */
export function thinned(deltas: Deltas, rule: Rule, density: number): Deltas {
  return new Map(
    Array.from(deltas, ([name, { shape, values }]) => [
      name,
      { shape, values: shape.length < 2 ? values : rule(values, density) },
    ]),
  )
}

/** The largest entries, as they are: what pruning alone does. */
export const pruned: Rule = (tau, density) => {
  const least = largest(tau, density)
  return tau.map((value) => (Math.abs(value) >= least ? value : 0))
}

/** The signs of the largest entries, each worth the mean magnitude of those kept (STC). */
export const meanMagnitude: Rule = (tau, density) => {
  const kept = pruned(tau, density)
  const count = kept.reduce((sum, value) => sum + Number(value !== 0), 0)
  const scale = kept.reduce((sum, value) => sum + Math.abs(value), 0) / count
  return kept.map((value) => Math.sign(value) * scale)
}

/** The sign of every entry, each worth the mean magnitude: one bit a weight (BitDelta). */
export const signs: Rule = (tau) => {
  const scale = tau.reduce((sum, value) => sum + Math.abs(value), 0) / tau.length
  return tau.map((value) => Math.sign(value) * scale)
}

/** As many entries as the density says, drawn at random with their true signs, at the unbiased scale of our own rule. */
export const randomPositions: Rule = (tau, density) => {
  const random = draws(tau.length)
  const chosen = tau.map((value) => (random() < density ? value : 0))
  const sum = chosen.reduce((total, value) => total + Math.abs(value), 0)
  const scale = tau.reduce((total, value) => total + value * value, 0) / sum
  return chosen.map((value) => Math.sign(value) * scale)
}

/** The magnitude of the last entry that is kept. */
function largest(tau: Float32Array, density: number): number {
  const sorted = tau.map(Math.abs).sort()
  return Math.max(
    sorted[sorted.length - Math.max(1, Math.floor(density * tau.length + 0.5))],
    Number.MIN_VALUE,
  )
}

/** Uniform numbers from a seed (a linear congruential generator). */
export function draws(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** The sixteen levels of NF4 (QLoRA, arXiv 2305.14314, appendix E). */
const NF4 = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
]
const NF4_BLOCK = 64

/** A weight as NF4 has it: each block of 64 over its largest magnitude. */
export function rounded4Bit(weight: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const out = weight.slice()
  for (let at = 0; at < weight.length; at += NF4_BLOCK) {
    const block = weight.subarray(at, at + NF4_BLOCK)
    const largest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    for (const [i, value] of block.entries()) {
      const share = value / largest
      const nearest = NF4.reduce((best, level) =>
        Math.abs(level - share) < Math.abs(best - share) ? level : best,
      )
      out[at + i] = nearest * largest
    }
  }
  return out
}
