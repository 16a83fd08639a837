/**
 * The small models that the repository holds for the tables, and where their fine-tunings are.
 *
 * @module
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const MODELS = join(import.meta.dirname, 'models')

/** An encoder with six classes: clinical assertion. */
export const ASSERTION = {
  base: join(MODELS, 'assertion'),
  full: join(MODELS, 'assertion-tuned/full.safetensors'),
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
  labels: (task: string, split: 'valid' | 'test') => join(MODELS, 'labels', `${task}.${split}.jsonl`),
}

/** Norms of the demo's base alone, trained apart. */
export function demoNorms(expert: string): string | undefined {
  const path = join(MODELS, 'demo', `${expert}-norms.safetensors`)
  return existsSync(path) ? path : undefined
}
