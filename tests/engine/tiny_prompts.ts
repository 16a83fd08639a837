/**
 * Experts that stand before a prompt of `tiny_chat`, of random values that are the same everywhere, and what the base answers behind
 * them: `prompt_experts.test.ts` holds the answers to the CPU, `prompt_experts.browser.test.ts` to the loader on a GPU.
 *
 * @module
 */
import { memorySpool, TritWriter } from '../../src/format/index.ts'

export const REQUEST = 'What color is it?'
/** Tokens of an answer. */
export const LENGTH = 3

/** Of llama: 48 wide, 2 layers, one head of 16 for keys and values. */
const KINDS = {
  rows: [{ name: 'prompt_embeddings', shape: [8, 48] }],
  caches: ['0.key', '0.value', '1.key', '1.value'].map((part) => ({
    name: `past_key_values.${part}`,
    shape: [1, 4, 16],
  })),
}
export type PromptKind = keyof typeof KINDS
/** Of values that the base cannot pass over. */
const SCALES = { rows: 1, caches: 8 }

export async function promptExpert(kind: PromptKind): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  let at = 0
  for (const { name, shape } of KINDS[kind]) {
    const count = shape.reduce((product, size) => product * size, 1)
    const values = Float32Array.from({ length: count }, () => SCALES[kind] * Math.sin(12.9898 * ++at))
    await writer.add({ name, target: name, shape, role: 'virtual', codec: 'dense', dtype: 'f32' }, values)
  }
  const table = { kind: 'expert' as const, method: 'prompt' as const, base: {}, compression: {}, sources: [] }
  return spool.join(await writer.finish(table))
}

/** What it writes after {@link REQUEST}. */
export const ANSWERS: Record<PromptKind | 'base', readonly number[]> = {
  base: [299, 274, 224],
  rows: [299, 274, 336],
  caches: [17, 362, 339],
}
