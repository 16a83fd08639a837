/** Models that chat, on the CPU. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { TextGenerationPipeline } from '@xenova/transformers'
import { TextModel } from '../../src/engine/text_model.ts'
import { ORT_FILES } from './web_transformers.ts'

export const TINY_CHAT = fileURLToPath(new URL('../fixtures/tiny_chat/', import.meta.url))

/** Opens an ONNX folder with weights in its graph. @param files - in place of those of the folder */
export function openOnCpu(
  folder: string,
  files: Record<string, string> = {},
  options: { templateFile?: string; externalFiles?: readonly string[]; grammar?: string } = {},
): Promise<TextModel> {
  return TextModel.load({
    files: async (path) => {
      if (path in files) return new Response(files[path])
      return existsSync(folder + path) ? new Response(await readFile(folder + path)) : undefined
    },
    ort: ORT_FILES,
    dtype: 'fp32',
    ...options,
  })
}

/** transformers.js' own pipeline over the folder that was opened last. */
export async function plainPipeline(): Promise<TextGenerationPipeline> {
  const { pipeline } = await import('@xenova/transformers')
  return (await pipeline('text-generation', 'model', {
    device: 'wasm',
    dtype: 'fp32',
  })) as TextGenerationPipeline
}
