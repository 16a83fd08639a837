/**
 * The small models that the repository holds for the tables, and where their fine-tunings are.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const MODELS = join(import.meta.dirname, 'models')

/** Widths that the encoder was trained at; the last one is measured in all ways. */
export const WIDTHS = [24, 48, 96] as const
export type AssertionWidth = (typeof WIDTHS)[number]

function widthFolder(width: AssertionWidth): string {
  return width === 96 ? 'assertion' : `assertion-${width}`
}

/** An encoder with six classes: clinical assertion. */
export const ASSERTION = {
  base: (width: AssertionWidth = 96) => join(MODELS, widthFolder(width)),
  full: (width: AssertionWidth = 96) => join(MODELS, `${widthFolder(width)}-tuned/full.safetensors`),
  /** Biases or norms alone. */
  part: (kind: string) => join(MODELS, 'assertion-tuned', `${kind}.safetensors`),
  adapter: (kind: string) => join(MODELS, 'assertion-tuned', kind),
  labels: (split: 'valid' | 'test') => join(MODELS, 'labels', `assertion.${split}.jsonl`),
}

/** An encoder-decoder, and a skill for each of five clinical tasks. */
export const CLINIC = {
  tasks: ['shorthand', 'assertion', 'entities', 'relations', 'inference'],
  base: join(MODELS, 'clinic'),
  expert: (task: string) => join(MODELS, 'clinic-tuned', `${task}.trit`),
  tuned: (task: string) => join(MODELS, 'clinic-tuned', `${task}.safetensors`),
  labels: (task: string, split: 'valid' | 'test') => join(MODELS, 'labels', `${task}.${split}.jsonl`),
}

/** Norms of the demo's base alone, trained apart. */
export function demoNorms(expert: string): string | undefined {
  const path = join(MODELS, 'demo', `${expert}-norms.safetensors`)
  return existsSync(path) ? path : undefined
}
