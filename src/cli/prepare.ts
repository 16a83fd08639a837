import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import picomatch from 'picomatch'
import { type Checkpoint, openCheckpoint } from '../compress/checkpoint.ts'
import { readBytes, readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { isTritswapError } from '../errors.ts'
import { fingerprintOf, HASH_SLICE, hashSlices, sha256, toHex } from '../format/index.ts'
import {
  type Checkpoint as ExportedFrom,
  type GraphFile,
  hoistModel,
  isModelDtype,
  type ModelDtype,
  type QuantizedChoice,
  type Storage,
  writeBaseWeights,
} from '../onnx/index.ts'
import { UsageError } from './command.ts'
import { type FileSource, openFile, openPath } from './file_source.ts'
import { chooseGraphs, copyCompanions, openModelFolder } from './model_folder.ts'
import { writeTrit } from './output.ts'

export const help = `
tritswap prepare <model folder> --out <dir>

Takes the weights that an expert may change out of a model's ONNX graphs, so that they can live in GPU buffers of
our own. Writes the graphs, one weights file and tritswap.json, beside copies of the model's configuration and
tokenizer: a folder that transformers.js and tritswap load.

  --checkpoint <file|dir>  safetensors that the graphs were exported from, for names and fingerprint
                           (default: beside the graphs, if there; "none" to go by names alone)
  --dtype <dtype>          fp32, fp16, q4, q4f16, q8, int8, uint8 or bnb4 (default: fp32, else fp16)
  --subfolder <name>       folder of the graphs in the model folder (default: onnx)
  --targets <glob>         only tensors of these checkpoint names; may be given several times
  --quantized <float|keep> what becomes of 4-bit weights in VRAM (default float: dequantized there, so that experts can
                           be merged into them; keep: as small as they are, for experts beside them); either way
                           they travel as 4 bits
  --storage <auto|f16|f32> how weights are stored (default auto: quantized ones as they are, others in f16 where that
                           loses nothing)
`

const WEIGHTS_FILE = 'weights.trit'

/** Contents of `tritswap.json`, which marks a folder as prepared. */
export interface PreparedManifest {
  version: 1
  weights: { file: string; bytes: number; rootHash: string }
  graphs: string[]
  dtype: ModelDtype
  /** Of the source checkpoint. */
  fingerprint?: string
}

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      checkpoint: { type: 'string' },
      dtype: { type: 'string' },
      subfolder: { type: 'string' },
      targets: { type: 'string', multiple: true },
      quantized: { type: 'string', default: 'float' },
      storage: { type: 'string', default: 'auto' },
    },
  })
  if (positionals.length !== 1 || values.out === undefined) {
    throw new UsageError('Cannot prepare: expected one model folder and --out <dir>')
  }
  if (values.dtype !== undefined && !isModelDtype(values.dtype)) {
    throw new UsageError(`Cannot prepare: --dtype ${values.dtype} is not one that transformers.js knows`)
  }
  if (!['auto', 'f16', 'f32'].includes(values.storage)) {
    throw new UsageError(`Cannot prepare: expected --storage auto, f16 or f32, found ${values.storage}`)
  }
  if (values.quantized !== 'float' && values.quantized !== 'keep') {
    throw new UsageError(`Cannot prepare: expected --quantized float or keep, found ${values.quantized}`)
  }
  if (values.quantized === 'keep' && values.storage !== 'auto') {
    throw new UsageError('Cannot prepare: --quantized keep stores weights as they are; leave out --storage')
  }
  const result = await prepareModel(positionals[0], values.out, {
    checkpoint: values.checkpoint,
    dtype: values.dtype,
    subfolder: values.subfolder,
    targets: values.targets,
    quantized: values.quantized,
    storage: values.storage as Storage,
  })
  const { manifest, inputs, tensors, unmatched, quantized } = result
  process.stdout.write(
    `${values.out}: ${manifest.graphs.length} graph(s) of ${manifest.dtype}, ${inputs} inputs fed by ${tensors} tensors, ${manifest.weights.bytes} bytes of weights\n`,
  )
  if (unmatched.length > 0) {
    process.stderr.write(
      `${unmatched.length} weights stay in the graph, out of reach of experts: folded by the exporter, or not in the checkpoint (${unmatched.slice(0, 5).join(', ')})\n`,
    )
  }
  if (quantized.length > 0) {
    const remedy = values.quantized === 'keep' ? 'prepare with --quantized float' : 'prepare fp32, fp16 or q4'
    process.stderr.write(
      `${quantized.length} weights stay quantized, out of reach of merged experts (${quantized.slice(0, 3).join(', ')}); ${remedy} to merge into them\n`,
    )
  }
  return 0
}

export interface PrepareOptions {
  checkpoint?: string
  dtype?: ModelDtype
  subfolder?: string
  targets?: readonly string[]
  quantized?: QuantizedChoice
  storage?: Storage
}

export interface PrepareResult {
  manifest: PreparedManifest
  /** Graph inputs that weights became. */
  inputs: number
  tensors: number
  /** Weights that stay in their graphs. */
  unmatched: string[]
  /** Nodes whose weights are integers. */
  quantized: string[]
}

/** Prepares a model folder into `out`. */
export async function prepareModel(
  path: string,
  out: string,
  options: PrepareOptions,
): Promise<PrepareResult> {
  const folder = await openModelFolder(path, options.subfolder)
  const { dtype, graphs } = chooseGraphs(folder, options.dtype)
  const checkpoint = await checkpointOf(folder.root, options.checkpoint)
  const graphFolder = join(folder.root, folder.subfolder)
  const externals = new Map<string, Promise<FileSource>>()
  // The files are named by the graphs, which are parsed first: a lazy handle each.
  const external = (location: string) => ({
    name: location,
    size: async () => (await handle(location)).size(),
    read: async (offset: number, length: number) => (await handle(location)).read(offset, length),
  })
  const handle = (location: string) => {
    const file = externals.get(location) ?? openFile(join(graphFolder, location))
    externals.set(location, file)
    return file
  }
  try {
    const files: GraphFile[] = []
    for (const name of graphs) {
      const file = folder.subfolder === '' ? name : `${folder.subfolder}/${name}`
      files.push({ file, bytes: await readFile(join(graphFolder, name)), external })
    }
    const picked = options.targets?.map((glob) => picomatch(glob))
    const model = await hoistModel(files, {
      checkpoint: checkpoint && exportedFrom(checkpoint),
      quantized: options.quantized,
      modelType: await modelTypeOf(folder.root),
      targets: picked && ((tensor) => picked.some((matches) => matches(tensor))),
    })
    const keepsData = model.graphs.some(({ externalFiles }) => externalFiles.length > 0)
    await copyCompanions(folder.root, out, keepsData)
    for (const { file, bytes, externalFiles } of model.graphs) {
      const target = join(out, file)
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, bytes)
      for (const name of externalFiles) await copyFile(join(graphFolder, name), join(dirname(target), name))
    }
    const fingerprint = checkpoint && (await checkpointFingerprint(checkpoint))
    const weights = join(out, WEIGHTS_FILE)
    const { head } = await writeTrit(weights, async (spool) => ({
      head: await writeBaseWeights(model, spool, { storage: options.storage, base: { fingerprint } }),
    }))
    const { size: bytes } = await stat(weights)
    const manifest: PreparedManifest = {
      version: 1,
      weights: { file: WEIGHTS_FILE, bytes, rootHash: toHex(await sha256(head)) },
      graphs: model.graphs.map(({ file }) => file),
      dtype,
      fingerprint,
    }
    await writeFile(join(out, 'tritswap.json'), `${JSON.stringify(manifest, null, 2)}\n`)
    return {
      manifest,
      inputs: model.graphs.reduce((sum, { weights }) => sum + weights.length, 0),
      tensors: model.tensors.size,
      unmatched: model.unmatched,
      quantized: model.quantized,
    }
  } finally {
    for (const file of await Promise.allSettled(externals.values())) {
      if (file.status === 'fulfilled') await file.value.close()
    }
    for (const file of checkpoint?.files ?? []) if ('close' in file) await (file as FileSource).close()
  }
}

/** `model_type` of the model's configuration. */
async function modelTypeOf(root: string): Promise<string | undefined> {
  try {
    const config = JSON.parse(await readFile(join(root, 'config.json'), 'utf8')) as { model_type?: string }
    return config.model_type
  } catch {
    // Without a configuration, or with one that is no JSON, names have to do.
    return undefined
  }
}

/** The checkpoint that was named, or the one that lies with the model. */
async function checkpointOf(root: string, path?: string): Promise<Checkpoint | undefined> {
  if (path === 'none') return undefined
  if (path !== undefined) return openCheckpoint(await openPath(path))
  try {
    return await openCheckpoint(await openPath(root))
  } catch (error) {
    // Most model folders on the hub hold graphs alone: names have to do.
    if (isTritswapError(error, 'input') || isTritswapError(error, 'unsupported')) return undefined
    throw error
  }
}

function exportedFrom({ name, tensors }: Checkpoint): ExportedFrom {
  const floats = new Map([...tensors].filter(([, tensor]) => /^(F64|F32|F16|BF16)$/.test(tensor.dtype)))
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
