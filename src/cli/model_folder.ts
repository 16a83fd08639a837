import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { TritswapError } from '../errors.ts'
import type { ModelDtype } from '../format/dtype.ts'
import { type ChosenGraphs, graphFiles, parseGraphFile } from '../onnx/index.ts'
import { readWhole } from './file_source.ts'

/** A model folder as transformers.js reads it. */
export interface ModelFolder {
  /** Holds config.json and the tokenizer. */
  root: string
  /** Folder of the graphs below `root`; `''` if they lie in it. */
  subfolder: string
  /** File names in it. */
  files: string[]
}

/** Files besides the graphs that transformers.js or people read. */
const COMPANIONS =
  /^(LICEN[CS]E|NOTICE)(\..*)?$|^(.*config|tokenizer|special_tokens_map|added_tokens|vocab|.*vocabulary|chat_template)\.json$|^(vocab|merges)\.txt$|^chat_template\.jinja$|^(tokenizer|spiece|sentencepiece\.bpe)\.model$/

/**
 * Finds the graphs of a model, given its folder or the folder of the graphs.
 * @throws {TritswapError} `input` when there are none
 */
export async function openModelFolder(path: string, subfolder?: string): Promise<ModelFolder> {
  const here = resolve(path)
  if (subfolder !== undefined) return { root: here, subfolder, files: await listed(join(here, subfolder)) }
  const files = await listed(here)
  if (files.some((file) => file.endsWith('.onnx'))) {
    const parent = dirname(here)
    return !files.includes('config.json') && (await listed(parent)).includes('config.json')
      ? { root: parent, subfolder: basename(here), files }
      : { root: here, subfolder: '', files }
  }
  if (files.includes('onnx'))
    return { root: here, subfolder: 'onnx', files: await listed(join(here, 'onnx')) }
  throw new TritswapError(
    'input',
    `Cannot prepare ${path}: expected *.onnx files in it or in its onnx folder, found none`,
    {
      fields: { path },
    },
  )
}

/** Graphs of a dtype, the first dtype there is when none is asked for, and of others. */
export function chooseGraphs(
  folder: ModelFolder,
  dtype?: ModelDtype,
  others: readonly ModelDtype[] = [],
): ChosenGraphs & { dtypes: ModelDtype[] } {
  const isThere = (candidate: ModelDtype) =>
    folder.files.some((file) => parseGraphFile(file)?.dtype === candidate)
  const dtypes = [dtype ?? (['fp32', 'fp16'] as const).find(isThere) ?? 'fp32', ...others]
  const chosen = dtypes.map((one) => graphFiles(folder.files, one))
  return {
    dtypes,
    graphs: chosen.flatMap(({ graphs }) => graphs),
    otherForms: chosen.flatMap(({ otherForms }) => otherForms),
  }
}

/**
 * Copies configuration, tokenizer and licence.
 * @param external - whether the prepared graphs keep data in files beside them; if not, the configuration loses its
 * hint of external data, which is about the original graphs
 */
export async function copyCompanions(from: string, to: string, external: boolean): Promise<void> {
  await mkdir(to, { recursive: true })
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const file = entry.name
    if (!COMPANIONS.test(file) || entry.isDirectory()) continue
    // Not copyFile: it would copy a read-only mode as well.
    const bytes = await readWhole(join(from, file))
    await writeFile(join(to, file), file === 'config.json' && !external ? withoutExternalData(bytes) : bytes)
  }
}

/** The configuration without the hint that sends transformers.js for data files. */
function withoutExternalData(bytes: Uint8Array): Uint8Array | string {
  let config: { 'transformers.js_config'?: Record<string, unknown> }
  try {
    config = JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return bytes
  }
  const hints = config?.['transformers.js_config']
  if (hints?.use_external_data_format === undefined) return bytes
  delete hints.use_external_data_format
  return `${JSON.stringify(config, null, 2)}\n`
}

async function listed(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort()
  } catch (cause) {
    throw new TritswapError('input', `Cannot open ${path}: there is no such folder`, {
      fields: { path },
      cause,
    })
  }
}
