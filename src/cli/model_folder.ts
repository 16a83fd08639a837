import { statSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TritswapError } from '../errors.ts'
import type { ModelDtype } from '../format/dtype.ts'
import { type ChosenGraphs, graphFiles, parseGraphFile } from '../onnx/index.ts'
import { readText, readWhole } from './file_source.ts'
import { type Place, placeOf } from './place.ts'

/** A model folder as transformers.js reads it. */
export interface ModelFolder {
  /** Holds config.json and the tokenizer. */
  root: Place
  /** Folder of the graphs below `root`; `''` if they lie in it. */
  subfolder: string
  /** File names in it. */
  files: string[]
  /** The dtype of the graph that was named, if one was. */
  dtype?: ModelDtype
}

/** Files besides the graphs that transformers.js or people read. */
const COMPANIONS =
  /^(LICEN[CS]E|NOTICE)(\..*)?$|^(.*config|tokenizer|special_tokens_map|added_tokens|vocab|.*vocabulary|chat_template)\.json$|^(vocab|merges)\.txt$|^chat_template\.jinja$|^(tokenizer|spiece|sentencepiece\.bpe)\.model$/

/**
 * Finds the graphs of a model, given its folder, the folder of the graphs, or one of them.
 * @throws {TritswapError} `input` when there are none
 */
export async function openModelFolder(address: string, subfolder?: string): Promise<ModelFolder> {
  const { place: here, file } = await placeOf(address)
  const named = file === undefined ? undefined : { dtype: parseGraphFile(file)?.dtype }
  if (file !== undefined && named?.dtype === undefined) {
    throw new TritswapError(
      'input',
      `Cannot prepare ${address}: expected a model folder or one of its graphs, such as onnx/model.onnx; it is another file`,
      { fields: { path: address } },
    )
  }
  if (subfolder !== undefined) return { root: here, subfolder, files: await here.list(subfolder) }
  const files = await here.list()
  if (files.some((name) => name.endsWith('.onnx'))) {
    const parent = files.includes('config.json') ? undefined : here.parent()
    return parent !== undefined && (await parent.place.list()).includes('config.json')
      ? { root: parent.place, subfolder: parent.name, files, ...named }
      : { root: here, subfolder: '', files, ...named }
  }
  if (files.includes('onnx')) return { root: here, subfolder: 'onnx', files: await here.list('onnx') }
  throw new TritswapError(
    'input',
    `Cannot prepare ${address}: expected *.onnx files in it or in its onnx folder, found none`,
    { fields: { path: address } },
  )
}

/** The path of a file of the graphs' folder in the model's. */
export function graphPath({ subfolder }: ModelFolder, file: string): string {
  return subfolder === '' ? file : `${subfolder}/${file}`
}

/** Graphs of a dtype, the first dtype there is when none is asked for, and of others. */
export function chooseGraphs(
  folder: ModelFolder,
  dtype?: ModelDtype,
  others: readonly ModelDtype[] = [],
): ChosenGraphs & { dtypes: ModelDtype[] } {
  const isThere = (candidate: ModelDtype) =>
    folder.files.some((file) => parseGraphFile(file)?.dtype === candidate)
  const dtypes = [dtype ?? folder.dtype ?? (['fp32', 'fp16'] as const).find(isThere) ?? 'fp32', ...others]
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
export async function copyCompanions(from: Place, to: string, external: boolean): Promise<void> {
  await mkdir(to, { recursive: true })
  const files = await from.list()
  for (const file of files) {
    if (!COMPANIONS.test(file)) continue
    const path = await from.path(file)
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) continue
    // Not copyFile: it would copy a read-only mode as well.
    const bytes = await readWhole(path)
    const isHinted = file === 'config.json' && !external
    const written =
      file === 'tokenizer_config.json'
        ? await withTemplate(bytes, files.includes(TEMPLATE) ? await from.path(TEMPLATE) : undefined)
        : isHinted && withoutExternalData(bytes)
    await writeFile(join(to, file), written || bytes)
  }
}

const TEMPLATE = 'chat_template.jinja'

/** The tokenizer's configuration with the chat template that lies beside it: transformers.js looks for it there only. */
async function withTemplate(bytes: Uint8Array, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined
  try {
    const config = JSON.parse(new TextDecoder().decode(bytes)) as { chat_template?: unknown }
    if (config.chat_template) return undefined
    return `${JSON.stringify({ ...config, chat_template: await readText(path) }, null, 2)}\n`
  } catch {
    return undefined
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
