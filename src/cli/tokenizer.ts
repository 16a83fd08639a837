import { dirname, resolve } from 'node:path'
import { TritswapError } from '../errors.ts'

export interface Tokenizer {
  encode(text: string): number[]
  decode(tokens: number[]): string
}

/**
 * The tokenizer of a model folder, by transformers.js.
 * @throws {TritswapError} `input` where transformers.js is not installed
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  let transformers: typeof import('@xenova/transformers')
  try {
    transformers = await import('@xenova/transformers')
  } catch (cause) {
    throw new TritswapError(
      'input',
      'Cannot tokenize a text: transformers.js is missing; npm install @huggingface/transformers',
      { cause },
    )
  }
  const { AutoTokenizer, env } = transformers
  const path = resolve(folder)
  env.allowRemoteModels = false
  env.allowLocalModels = true
  env.localModelPath = dirname(path)
  return AutoTokenizer.from_pretrained(path.slice(dirname(path).length + 1))
}
