/**
 * Checkpoints: one safetensors file, or a folder with one, or with several and an index.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { parseJsonObject } from '../source/json.ts'
import { CHECKPOINT_JSON, MAX_CHECKPOINT_JSON_BYTES } from '../source/limits.ts'
import type { ByteSource } from '../source/source.ts'
import { readSafetensors, type StoredTensor } from './safetensors.ts'

/** The part of a folder that compression uses; the command line and the browser each implement it. */
export interface FileFolder {
  /** For messages. */
  readonly name: string
  /** Base names of the files in it. */
  list(): Promise<string[]>
  /** @throws {TritswapError} `input` if there is no such file */
  open(file: string): Promise<ByteSource>
}

export interface Checkpoint {
  name: string
  /** In order of their data, shard by shard in order of file name: the tensor order of tie rules and tables. */
  tensors: ReadonlyMap<string, StoredTensor>
  files: ByteSource[]
  metadata: Record<string, string>
  /** Read out of another format: its bytes are not those of the checkpoint that it came from. */
  converted?: boolean
}

const INDEX = 'model.safetensors.index.json'
const PICKLE = /\.(bin|pt|pth|ckpt|pkl)$/

/**
 * Opens a checkpoint without reading its weights.
 * @throws {TritswapError} `input` where there is no safetensors file, `unsupported` for pickles, `format` for a bad file
 */
export async function openCheckpoint(from: ByteSource | FileFolder): Promise<Checkpoint> {
  if ('read' in from) {
    if (PICKLE.test(from.name)) throw pickle(from.name)
    return join(from.name, [from])
  }
  const files = await from.list()
  if (files.includes('model.safetensors')) return join(from.name, [await from.open('model.safetensors')])
  if (files.includes(INDEX)) return openShards(from, files)
  const safetensors = files.filter((file) => file.endsWith('.safetensors'))
  if (safetensors.length === 1) return join(from.name, [await from.open(safetensors[0])])
  if (safetensors.length > 1) {
    throw new TritswapError(
      'input',
      `Cannot open ${from.name}: expected model.safetensors or ${INDEX}, found ${safetensors.length} safetensors files; name the one you mean`,
      { fields: { name: from.name, files: safetensors } },
    )
  }
  const pickled = files.find((file) => PICKLE.test(file))
  if (pickled !== undefined) throw pickle(`${from.name}/${pickled}`)
  throw new TritswapError(
    'input',
    `Cannot open ${from.name}: expected model.safetensors or ${INDEX} in it, found neither`,
    {
      fields: { name: from.name },
    },
  )
}

async function openShards(folder: FileFolder, files: readonly string[]): Promise<Checkpoint> {
  const source = await folder.open(INDEX)
  const bad = (why: string, cause?: unknown) =>
    new TritswapError('format', `Cannot read ${source.name}: ${why}`, {
      fields: { name: source.name },
      cause,
    })
  const { weight_map: map } = (await readJson(source)) as { weight_map?: unknown }
  if (typeof map !== 'object' || map === null) throw bad('it has no weight_map')
  const shards = [...new Set(Object.values(map))].sort()
  for (const shard of shards) {
    if (typeof shard !== 'string' || !files.includes(shard)) {
      throw bad(
        `it names ${JSON.stringify(shard)?.slice(0, 120)}, which is not in ${folder.name}; fetch all shards`,
      )
    }
  }
  const checkpoint = await join(
    folder.name,
    await Promise.all(shards.map((shard) => folder.open(shard as string))),
  )
  for (const name of Object.keys(map)) {
    if (!checkpoint.tensors.has(name)) throw bad(`it names tensor ${name.slice(0, 120)}, which no shard has`)
  }
  return checkpoint
}

async function join(name: string, files: ByteSource[]): Promise<Checkpoint> {
  const tensors = new Map<string, StoredTensor>()
  let metadata: Record<string, string> = {}
  for (const file of files) {
    const read = await readSafetensors(file)
    metadata = { ...metadata, ...read.metadata }
    for (const tensor of read.tensors) {
      if (tensors.has(tensor.name)) {
        throw new TritswapError(
          'format',
          `Cannot read ${name}: tensor ${tensor.name} is in two of its files`,
          {
            fields: { name, tensor: tensor.name },
          },
        )
      }
      tensors.set(tensor.name, tensor)
    }
  }
  return { name, tensors, files, metadata }
}

/** @throws {TritswapError} `format` if it is no JSON object, `limit` if it is larger than configurations are */
export async function readJson(source: ByteSource): Promise<Record<string, unknown>> {
  const size = (await source.size()) ?? 0
  if (size > MAX_CHECKPOINT_JSON_BYTES) {
    throw new TritswapError(
      'limit',
      `Cannot read ${source.name}: ${size} bytes of JSON are over the limit of ${MAX_CHECKPOINT_JSON_BYTES}`,
    )
  }
  return parseJsonObject(await source.read(0, size), source.name, CHECKPOINT_JSON)
}

/** The error for files that run code when they are opened. */
export function pickle(name: string): TritswapError {
  return new TritswapError(
    'unsupported',
    `Cannot open ${name}: it is a PyTorch pickle, and unpickling executes whatever code the file holds; save it as safetensors (model.save_pretrained(dir, safe_serialization=True), or safetensors.torch.save_file(torch.load(f, weights_only=True), out)) and use that`,
    { fields: { name } },
  )
}
