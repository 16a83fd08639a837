/**
 * Makes experts of what a visitor brings, in a worker of the page: of an adapter as `peft` saves it, or of a fine-tuning
 * of the loaded base.
 *
 * @module
 */
import { adapterTaskVector } from '../compress/adapter.ts'
import { type Checkpoint, type FileFolder, openCheckpoint } from '../compress/checkpoint.ts'
import { compressTaskVector } from '../compress/compress.ts'
import { DEFAULT_DENSITY, DEFAULT_EXPERT_CODEC, defaultTerms } from '../compress/defaults.ts'
import { fullTaskVector } from '../compress/full.ts'
import { readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { sweep } from '../compress/sweep.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { TritswapError } from '../errors.ts'
import { type BaseRecord, SKETCH_VALUES, sketchPositions, targetsOf, toHalf } from '../format/index.ts'
import type { TritMethod } from '../format/table.ts'
import type { PayloadSpool } from '../format/writer.ts'
import { nameMatcher } from '../onnx/index.ts'
import { blobSource } from '../source/memory.ts'
import { openPageBase, type PageBase, quantizedBase } from './base_checkpoint.ts'
import { sameButForRounding } from './precision.ts'

/** What was brought, as far as the headers tell. */
export interface Opened {
  method: TritMethod
  /** How much of it is kept unless the visitor wants it otherwise. */
  keep: Keep
  /** Tensors that may have changed. */
  tensors: number
  weights: number
  /** How it was read, for the visitor. */
  notes: string[]
}

/** How much of it to keep: a share of the entries, or a number of terms of each matrix. */
export type Keep = { density: number } | { terms: number }

/** One compression of what was brought. */
export interface Made {
  file: Blob
  keep: Keep
  alpha: number
  bytes: number
  /** Bytes of the same change in f16, divided by the bytes of the file. */
  ratioToF16: number
  /** Cosine of the angle between what is stored and tau; undefined where that was not counted. */
  cosine?: number
}

/** Relative distance of another model's weights: no fine-tuning goes so far, and independent weights are at √2. */
const MAX_DISTANCE = 0.7

/** Tables in old checkpoints, which no graph has as weights. */
const NOT_TRAINED =
  /(^|\.)(rotary_emb\.inv_freq|position_ids|attn\.(masked_)?bias|attention\.(masked_)?bias)$/

export class Compressor {
  #task: TaskVector | undefined

  /**
   * Reads the headers of what was brought, and finds its tensors in the loaded base.
   * @param name - the name for messages
   * @param files - of one folder
   * @param base - folder of the loaded base: absolute URL with a slash at its end
   * @throws {TritswapError} `input`, `format`, `unsupported`, `base`, naming file or tensor and what to do
   */
  async open(name: string, files: readonly File[], base: string, signal: AbortSignal): Promise<Opened> {
    this.#task = undefined
    const folder = folderOf(name, files)
    const loaded = await openPageBase(base, signal)
    const isAdapter = files.some(({ name }) => name === 'adapter_config.json')
    const task = isAdapter
      ? await openAdapter(folder, loaded)
      : await openFull(await checkpointOf(folder, files), loaded, signal)
    const problem = task.tensors.find(({ problem }) => problem !== undefined)?.problem
    if (problem !== undefined) throw problem
    this.#task = task
    const { method, tensors, notes } = task
    const weights = tensors.reduce((sum, { theta }) => sum + theta.weights, 0)
    return { method, keep: defaultKeep(task), tensors: tensors.length, weights, notes }
  }

  /**
   * Compresses what was brought once, and gives a file for every alpha: the files differ only in their heads. Terms have no
   * alpha: they make one file.
   * @returns in the order of `alphas`
   */
  async compress(
    keep: Keep,
    alphas: readonly number[],
    label: string,
    signal: AbortSignal,
    onProgress: (done: number, total: number) => void,
  ): Promise<Made[]> {
    const task = this.#opened()
    const { parts, spool } = blobSpool()
    const report = throttled(onProgress)
    const context = {
      signal,
      onProgress: ({ done, total }: { done: number; total: number }) => report(done, total),
    }
    if ('terms' in keep) {
      const { head, bytes } = await compressTaskVector(
        task,
        { label, terms: keep.terms },
        { ...context, spool },
      )
      const weights = task.tensors.reduce((sum, { theta }) => sum + theta.weights, 0)
      return [{ file: new Blob([head, ...parts]), keep, alpha: 1, bytes, ratioToF16: (2 * weights) / bytes }]
    }
    const run = sweep(
      task,
      { label },
      { densities: [keep.density], alphas },
      { ...context, spoolFor: () => spool },
    )
    for await (const points of run) {
      return points.map(({ head, alpha, bytes, ratioToF16, cosine }) => {
        return { file: new Blob([head, ...parts]), keep, alpha, bytes, ratioToF16, cosine }
      })
    }
    throw new TritswapError('input', 'Cannot compress: no density was given')
  }

  /** The same expert with every delta in f16, to compare compressions with. */
  async uncompressed(signal: AbortSignal): Promise<Blob> {
    const { parts, spool } = blobSpool()
    const { head } = await compressTaskVector(this.#opened(), { dense: ['*'] }, { spool, signal })
    return new Blob([head, ...parts])
  }

  #opened(): TaskVector {
    if (this.#task === undefined) throw new TritswapError('input', 'Cannot compress: nothing was brought')
    return this.#task
  }
}

/** As the command line has it. */
function defaultKeep({ tensors, method }: TaskVector): Keep {
  return DEFAULT_EXPERT_CODEC[method] === 'terms'
    ? { terms: defaultTerms(tensors, method) }
    : { density: DEFAULT_DENSITY[method] }
}

function folderOf(folder: string, files: readonly File[]): FileFolder {
  return {
    name: folder,
    list: async () => files.map(({ name }) => name),
    async open(name) {
      const file = files.find((candidate) => candidate.name === name)
      if (file === undefined) {
        throw new TritswapError('input', `Cannot open ${name}: it is not among the files; drop it too`)
      }
      return blobSource(file, name)
    },
  }
}

/** A single weights file may have any name; several must have the usual names of checkpoints. */
function checkpointOf(folder: FileFolder, files: readonly File[]): Promise<Checkpoint> {
  const weights = files.filter(({ name }) => /\.(safetensors|bin|pt|pth|ckpt|pkl)$/.test(name))
  return weights.length === 1 && files.every(({ name }) => !name.endsWith('.index.json'))
    ? openCheckpoint(blobSource(weights[0], weights[0].name))
    : openCheckpoint(folder)
}

async function openAdapter(
  folder: FileFolder,
  { checkpoint, name, fingerprint }: PageBase,
): Promise<TaskVector> {
  const task = await adapterTaskVector(folder, checkpoint)
  const record = { name: task.baseName ?? name, fingerprint }
  return {
    ...task,
    baseRecord: checkpoint ? await recordOf(task, checkpoint, { name, fingerprint }) : () => record,
  }
}

async function openFull(
  finetuned: Checkpoint,
  { checkpoint, name, fingerprint }: PageBase,
  signal: AbortSignal,
): Promise<TaskVector> {
  const lora = [...finetuned.tensors.keys()].find((tensor) => /lora_[AB]|ia3_l/.test(tensor))
  if (lora !== undefined) {
    throw new TritswapError(
      'input',
      `Cannot compress ${finetuned.name}: it holds ${lora}, so it is an adapter; drop its adapter_config.json too, or the whole folder`,
    )
  }
  if (checkpoint === undefined) throw quantizedBase(finetuned.name, name)
  const trained = new Map([...finetuned.tensors].filter(([tensor]) => !NOT_TRAINED.test(tensor)))
  const base = withTiedOutput(underNames(checkpoint, trained.keys()), trained)
  await refuseOtherModel(finetuned.name, trained, base, signal)
  for (const [tensor, theta] of trained) {
    const init = base.tensors.get(tensor)
    // A tensor that was not trained, but saved in another dtype than the base, would look as if every entry had moved.
    if (init !== undefined && (await sameButForRounding(theta, init, signal))) trained.set(tensor, init)
  }
  const task = await fullTaskVector(base, { ...finetuned, tensors: trained })
  return { ...task, baseRecord: await recordOf(task, base, { name, fingerprint }) }
}

/** The base with its tensors under the names that the brought file uses. */
function underNames(base: Checkpoint, names: Iterable<string>): Checkpoint {
  const tensors = new Map(base.tensors)
  const match = nameMatcher(base.tensors.keys())
  for (const name of names) {
    const own = match(name)
    const tensor = own === undefined ? undefined : base.tensors.get(own)
    if (own === undefined || tensor === undefined || own === name) continue
    tensors.delete(own)
    tensors.set(name, { ...tensor, name })
  }
  return { ...base, tensors }
}

/** If the output matrix is the embedding, graphs hold it once, but some checkpoints hold it twice. */
function withTiedOutput(base: Checkpoint, finetuned: ReadonlyMap<string, StoredTensor>): Checkpoint {
  const output = [...finetuned.keys()].find((name) => /(^|\.)(lm_head|embed_out)\.weight$/.test(name))
  if (output === undefined || base.tensors.has(output)) return base
  const embedding = [...base.tensors].find(([name]) => /(embed_tokens|wte|embed_in)\.weight$/.test(name))
  if (embedding === undefined) return base
  return { ...base, tensors: new Map([...base.tensors, [output, { ...embedding[1], name: output }]]) }
}

/** @throws {TritswapError} `base` if the weights are not those of a fine-tuning of the base */
async function refuseOtherModel(
  name: string,
  finetuned: ReadonlyMap<string, StoredTensor>,
  base: Checkpoint,
  signal: AbortSignal,
): Promise<void> {
  let difference = 0
  let norm = 0
  for (const [tensor, theta] of finetuned) {
    const init = base.tensors.get(tensor)
    // Norms and biases are alike in all models.
    if (init === undefined || theta.shape.length < 2 || init.shape.join() !== theta.shape.join()) continue
    for (const position of sketchPositions(tensor, init.weights)) {
      const [[to], [from]] = await Promise.all([
        readFloats(theta, position, 1, { signal }),
        readFloats(init, position, 1, { signal }),
      ])
      difference += (to - from) ** 2
      norm += from ** 2
    }
  }
  const distance = norm === 0 ? 0 : Math.sqrt(difference / norm)
  if (distance <= MAX_DISTANCE) return
  throw new TritswapError(
    'base',
    `Cannot compress ${name}: its weights differ from those of ${base.name} by ${Math.round(100 * distance)} %, so it was not fine-tuned from this base; load the one that it was trained from`,
    { fields: { name, base: base.name, distance } },
  )
}

/** What an expert records of its base: eight values of each tensor that it changes, if the base has all of those. */
async function recordOf(
  task: TaskVector,
  base: Checkpoint,
  { name, fingerprint }: BaseRecord,
): Promise<NonNullable<TaskVector['baseRecord']>> {
  const sketches = new Map<string, Uint16Array>()
  for (const target of targetsOf(task.tensors)) {
    const tensor = base.tensors.get(target)
    if (tensor === undefined) continue
    const values = new Uint16Array(SKETCH_VALUES)
    for (const [i, position] of sketchPositions(target, tensor.weights).entries()) {
      values[i] = toHalf((await readFloats(tensor, position, 1))[0])
    }
    sketches.set(target, values)
  }
  return (tensors) => {
    const values = targetsOf(tensors).map((target) => sketches.get(target))
    const known = values.every((each) => each !== undefined)
    return {
      name,
      fingerprint,
      sketch: known ? Uint16Array.from(values.flatMap((each) => [...each])) : undefined,
    }
  }
}

/** Collects the payload in blobs, which the browser may move to disk. */
function blobSpool(): { parts: Blob[]; spool: PayloadSpool } {
  const parts: Blob[] = []
  return {
    parts,
    spool: {
      async append(bytes) {
        parts.push(new Blob([bytes]))
      },
    },
  }
}

/** Limits reports, each a message to the page, to as many as the page can show. */
function throttled(report: (done: number, total: number) => void): (done: number, total: number) => void {
  let last = 0
  return (done, total) => {
    const now = performance.now()
    if (now - last < 50 && done < total) return
    last = now
    report(done, total)
  }
}
