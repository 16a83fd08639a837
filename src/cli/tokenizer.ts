import { dirname, join, resolve } from 'node:path'
import { ChatTemplate } from '../engine/chat_template.ts'
import { checkModelFile } from '../engine/model_config.ts'
import { TritswapError } from '../errors.ts'
import { readWhole } from './file_source.ts'

export interface Tokenizer {
  encode(text: string): number[]
  decode(tokens: number[]): string
  /** What a model reads of a text, or of two that belong together: ids, and which of the texts they are of. */
  inputs(text: string, pair?: string): Record<string, readonly number[]>
  template: ChatTemplate
}

/**
 * The tokenizer of a model folder, by transformers.js.
 * @throws {TritswapError} `input` where transformers.js is not installed or a file is missing, `format` for one that is
 * not what it must be
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
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    const path = join(folder, file)
    checkModelFile(file, path, await readWhole(path))
  }
  const { AutoTokenizer, env } = transformers
  const path = resolve(folder)
  env.allowRemoteModels = false
  env.allowLocalModels = true
  env.localModelPath = dirname(path)
  const tokenizer = await AutoTokenizer.from_pretrained(path.slice(dirname(path).length + 1))
  return {
    encode: (text) => tokenizer.encode(text),
    decode: (tokens) => tokenizer.decode(tokens),
    inputs: (text, pair) => {
      const { input_ids, token_type_ids } = tokenizer(text, { text_pair: pair, return_tensor: false })
      return { input_ids, ...(token_type_ids !== undefined && { token_type_ids }) }
    },
    template: new ChatTemplate(tokenizer),
  }
}
