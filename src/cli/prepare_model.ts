import { copyFile, mkdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import picomatch from 'picomatch'
import { type Checkpoint, openCheckpoint } from '../compress/checkpoint.ts'
import { readGgufWeights } from '../compress/gguf_weights.ts'
import { placeholder } from '../compress/placeholders.ts'
import { readBytes, readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { tiedCopies } from '../compress/ties.ts'
import { isTritswapError } from '../errors.ts'
import type { ModelManifest } from '../fetcher/manifest.ts'
import type { ModelDtype } from '../format/dtype.ts'
import { fingerprintOf, HASH_SLICE, hashSlices, sha256, toHex } from '../format/index.ts'
import {
  type Checkpoint as ExportedFrom,
  externalFilesOf,
  type GraphFile,
  hoistModel,
  OnnxGraph,
  type QuantizedChoice,
  type Storage,
  withStoredWeights,
  writeBaseWeights,
} from '../onnx/index.ts'
import { type FileSource, filesIn, openFile, openPath, readText, readWhole } from './file_source.ts'
import { chooseGraphs, copyCompanions, graphPath, openModelFolder } from './model_folder.ts'
import { writeTrit } from './output.ts'
import type { Place } from './place.ts'
import { splitFile } from './split_file.ts'

const WEIGHTS_FILE = 'weights.trit'
/** Marks a folder as prepared. */
export const MANIFEST = 'tritswap.json'

export interface PrepareOptions {
  checkpoint?: string
  /** A GGUF file whose weights take the place of those in the graphs. */
  weights?: string
  dtype?: ModelDtype
  /** Graphs of these as well, over the same weights. */
  otherDtypes?: readonly ModelDtype[]
  /** Bytes of a file of weights at most. */
  partBytes?: number
  subfolder?: string
  targets?: readonly string[]
  quantized?: QuantizedChoice
  storage?: Storage
}

export interface PrepareResult {
  manifest: ModelManifest
  /** Graph inputs that weights became. */
  inputs: number
  tensors: number
  /** Weights that stay in their graphs. */
  unmatched: string[]
  /** Nodes whose weights are integers. */
  quantized: string[]
  /** Files with other forms of the graphs, which are left out. */
  otherForms: string[]
}

/** Prepares a model folder, or one of its graphs, into `out`. */
export async function prepareModel(
  path: string,
  out: string,
  options: PrepareOptions,
): Promise<PrepareResult> {
  const folder = await openModelFolder(path, options.subfolder)
  const { dtypes, graphs, otherForms } = chooseGraphs(folder, options.dtype, options.otherDtypes)
  const checkpoint = await checkpointOf(folder.root, options.checkpoint)
  const graphFile = (name: string) => folder.root.path(graphPath(folder, name))
  const gguf = options.weights === undefined ? undefined : await openFile(options.weights)
  const externals = new Map<string, Promise<FileSource>>()
  // Only the parsed graphs name their external files, so each is opened on its first use.
  const external = (location: string) => ({
    name: location,
    size: async () => (await handle(location)).size(),
    read: async (offset: number, length: number) => (await handle(location)).read(offset, length),
  })
  const handle = (location: string) => {
    const file = externals.get(location) ?? graphFile(location).then(openFile)
    externals.set(location, file)
    return file
  }
  try {
    const files: GraphFile[] = []
    for (const name of graphs) {
      const graph = new OnnxGraph(graphPath(folder, name), await readWhole(await graphFile(name)))
      files.push({ graph, external })
    }
    const picked = options.targets?.map((glob) => picomatch(glob))
    const hoisted = await hoistModel(files, {
      checkpoint: checkpoint && (await exportedFrom(checkpoint)),
      quantized: options.quantized,
      modelType: await modelTypeOf(folder.root),
      targets: picked && ((tensor) => picked.some((matches) => matches(tensor))),
    })
    const model =
      gguf === undefined
        ? hoisted
        : withStoredWeights(hoisted, { name: gguf.name, weights: await readGgufWeights(gguf) })
    const keepsData = model.graphs.some(({ graph }) => externalFilesOf(graph).length > 0)
    await copyCompanions(folder.root, out, keepsData)
    for (const { graph } of model.graphs) {
      const target = join(out, graph.file)
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, graph.bytes)
      for (const name of externalFilesOf(graph)) {
        await handle(name)
        await copyFile(await graphFile(name), join(dirname(target), name))
      }
    }
    const fingerprint = checkpoint && (await checkpointFingerprint(checkpoint))
    const weights = join(out, WEIGHTS_FILE)
    const { head } = await writeTrit(weights, async (spool) => ({
      head: await writeBaseWeights(model, spool, { storage: options.storage, base: { fingerprint } }),
    }))
    const { size: bytes } = await stat(weights)
    const parts = await splitFile(weights, options.partBytes)
    const manifest: ModelManifest = {
      version: 1,
      weights: { file: WEIGHTS_FILE, bytes, rootHash: toHex(await sha256(head)), parts },
      graphs: model.graphs.map(({ graph }) => graph.file),
      dtype: dtypes[0],
      dtypes: dtypes.length === 1 ? undefined : dtypes,
      fingerprint,
    }
    await writeFile(join(out, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`)
    return {
      manifest,
      inputs: model.graphs.reduce((sum, { weights }) => sum + weights.length, 0),
      tensors: model.tensors.size,
      unmatched: model.unmatched,
      quantized: model.quantized,
      otherForms,
    }
  } finally {
    await gguf?.close()
    for (const file of await Promise.allSettled(externals.values())) {
      if (file.status === 'fulfilled') await file.value.close()
    }
    for (const file of checkpoint?.files ?? []) if ('close' in file) await (file as FileSource).close()
  }
}

/** `model_type` of the model's configuration. */
async function modelTypeOf(root: Place): Promise<string | undefined> {
  try {
    const config = JSON.parse(await readText(await root.path('config.json'))) as {
      model_type?: unknown
    } | null
    return typeof config?.model_type === 'string' ? config.model_type : undefined
  } catch {
    // Without a readable configuration, tensors are matched by their names alone.
    return undefined
  }
}

/** The checkpoint that the user named, or the one in the model folder. */
async function checkpointOf(root: Place, path?: string): Promise<Checkpoint | undefined> {
  if (path === 'none') return undefined
  if (path !== undefined) return openCheckpoint(await openPath(path))
  try {
    return await openCheckpoint(filesIn(root))
  } catch (error) {
    // Most model folders on the hub hold graphs alone: tensors are then matched by their names.
    // A file that is there and cannot be opened is another matter: `fields.path` names it.
    const isNone = isTritswapError(error, 'input') && error.fields.path === undefined
    if (isNone || isTritswapError(error, 'unsupported')) return undefined
    throw error
  }
}

/**
 * The floats of a checkpoint. Where two tensors are one weight by their values, such as an embedding and the output layer
 * tied to it, graphs know both by the name of the embedding: experts change it for both.
 */
async function exportedFrom({ name, tensors }: Checkpoint): Promise<ExportedFrom> {
  const empty = [...tensors.values()].find(({ weights }) => weights === 0)
  if (empty !== undefined) throw placeholder(empty, 'prepare')
  const copies = await tiedCopies(tensors)
  const floats = new Map(
    [...tensors].filter(([name, { dtype }]) => /^(F64|F32|F16|BF16)$/.test(dtype) && !copies.includes(name)),
  )
  return {
    name,
    tensors: floats,
    read: (tensor, first, count) => readFloats(floats.get(tensor)!, first, count),
  }
}

async function checkpointFingerprint({ tensors }: Checkpoint): Promise<string> {
  const entries = []
  for (const tensor of tensors.values()) {
    entries.push({
      name: tensor.name,
      dtype: tensor.dtype,
      shape: tensor.shape,
      hash: await hashSlices(slicesOf(tensor)),
    })
  }
  return fingerprintOf(entries)
}

async function* slicesOf(tensor: StoredTensor): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const size = tensor.weights === 0 ? 1 : tensor.bytes / tensor.weights
  const step = HASH_SLICE / size
  for (let from = 0; from < tensor.weights; from += step) {
    yield readBytes(tensor, from, Math.min(step, tensor.weights - from))
  }
}
