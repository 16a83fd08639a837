/**
 * The JSON files of a model folder that transformers.js needs, checked before it reads them: it trusts them, and
 * hides which of them was wrong.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { integer, number, object, text } from '../format/fields.ts'
import { parseJsonObject } from '../source/json.ts'
import { MAX_LAYERS, MODEL_JSON } from '../source/limits.ts'
import { mistakenFile } from '../source/mistaken_file.ts'

/** Files that transformers.js cannot do without, and those that it takes where they are. */
const REQUIRED = ['config.json', 'tokenizer.json', 'tokenizer_config.json']
const OPTIONAL = ['generation_config.json']

const MAX_COUNT = Number.MAX_SAFE_INTEGER

/** Bytes of a file of the folder; undefined where there is none. */
export type ReadFile = (file: string) => Promise<Uint8Array<ArrayBuffer> | undefined>

export interface ModelConfig {
  modelType: string
  /** The files as they were read; undefined for one that is not there. */
  files: Map<string, Uint8Array<ArrayBuffer> | undefined>
}

/**
 * Reads and checks the files.
 * @param folder - for messages, with a slash at its end
 * @throws {TritswapError} `input` for one that is missing, `format` or `limit` for one that is not what it must be; and
 * what `read` throws
 */
export async function readModelConfig(folder: string, read: ReadFile): Promise<ModelConfig> {
  const files = new Map<string, Uint8Array<ArrayBuffer> | undefined>()
  const all = [...REQUIRED, ...OPTIONAL]
  for (const [i, bytes] of (await Promise.all(all.map(read))).entries()) {
    const file = all[i]
    const isAbsent = bytes === undefined || (OPTIONAL.includes(file) && isPage(bytes))
    files.set(file, isAbsent ? undefined : bytes)
    if (!isAbsent) checkModelFile(file, `${folder}${file}`, bytes)
    else if (REQUIRED.includes(file)) throw missing(folder, file)
  }
  const config = parseJsonObject(files.get('config.json')!, `${folder}config.json`, MODEL_JSON)
  return { modelType: config.model_type as string, files }
}

/**
 * Checks one file.
 * @param name - for messages
 * @throws {TritswapError} `format`, `limit`
 */
export function checkModelFile(file: string, name: string, bytes: Uint8Array): void {
  const content = parseJsonObject(bytes, name, MODEL_JSON)
  if (file === 'config.json') {
    text(content.model_type, `model_type of ${name}`)
    checkCounts(content, name)
  } else if (file === 'tokenizer.json') {
    const { vocab } = object(content.model, `model of ${name}`)
    // A list of pieces and their scores in Unigram models.
    if (!Array.isArray(vocab)) object(vocab, `model.vocab of ${name}`)
  } else if (file === 'generation_config.json') {
    const { eos_token_id: end } = content
    for (const token of Array.isArray(end) ? end : [end ?? 0])
      integer(token, `eos_token_id of ${name}`, -1, MAX_COUNT)
    for (const setting of ['temperature', 'top_k', 'top_p', 'min_p', 'repetition_penalty'])
      number(content[setting] ?? 0, `${setting} of ${name}`)
  }
}

/** Counts of layers and of positions, here and in the configurations of parts; null leaves one open, −1 says "all". */
function checkCounts(config: Record<string, unknown>, name: string): void {
  for (const [key, value] of Object.entries(config)) {
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      checkCounts(value as Record<string, unknown>, name)
    const isNeeded = /^(num_hidden_layers|num_layers|n_layers?|max_position_embeddings|n_positions)$/.test(
      key,
    )
    if (typeof value !== 'number' && (!isNeeded || value === null)) continue
    if (/(^|_)layers?$/.test(key)) integer(value, `${key} of ${name}`, -1, MAX_LAYERS)
    else if (isNeeded) integer(value, `${key} of ${name}`, -1, MAX_COUNT)
  }
}

/** Servers of single-page apps send their page for what they do not have. */
function isPage(bytes: Uint8Array): boolean {
  return mistakenFile(bytes)?.includes('HTML') === true
}

function missing(folder: string, file: string): TritswapError {
  return new TritswapError(
    'input',
    `Cannot open ${folder}: it has no ${file}; check the address, and that the folder is a whole model as transformers.js loads it`,
    { fields: { model: folder, file } },
  )
}
