/**
 * The browser side of `npm run compat`: one model in one dtype, plain, prepared in the browser and prepared by the
 * command line, against each other and against torch.
 *
 * @module
 */
import * as transformers from '@xenova/transformers'
import { readFloats, readSafetensors, type StoredTensor } from '../../src/compress/safetensors.ts'
import { sha256, toHex } from '../../src/format/index.ts'
import { requestGpu } from '../../src/gpu/index.ts'
import {
  type AttachedExperts,
  attachExperts,
  ExpertLoader,
  isTritswapError,
  type LoaderOptions,
} from '../../src/loader/index.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import {
  lastPositions,
  ReferenceWeights,
  relativeDifference,
  type Values,
} from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { CpuReference, type SessionClass } from './cpu_reference.ts'
import type { Job, JobExpert, JobResult, Outcome } from './protocol.ts'

const ORT = new URL('/ort/', location.href).href
/** Relative to the range of the reference. */
const TOLERANCES: Record<string, number> = { fp32: 1e-3 }
const QUANTIZED_TOLERANCE = 2e-2
/** Of graphs that round activations to bytes. */
const ROUNDED_TOLERANCE = 0.05
const NO_REFERENCE = 'torch has no outputs for weights quantized like these'

interface Model {
  forward(inputs: Record<string, transformers.Tensor>): Promise<Record<string, transformers.Tensor>>
  sessions: Record<string, unknown>
  dispose(): Promise<unknown>
}

function configure({ folder }: Job) {
  const { env } = transformers
  env.allowRemoteModels = false
  env.allowLocalModels = true
  env.localModelPath = new URL('..', new URL(`${folder}/`, location.href)).pathname
  env.useBrowserCache = false
  env.useWasmCache = false
  const { wasm } = env.backends.onnx
  if (wasm) {
    wasm.wasmPaths = {
      mjs: `${ORT}ort-wasm-simd-threaded.asyncify.mjs`,
      wasm: `${ORT}ort-wasm-simd-threaded.asyncify.wasm`,
    }
    wasm.numThreads = 1
  }
}

async function load({ folder, graph, dtype, architecture, externalData }: Job): Promise<Model> {
  const classes = transformers as unknown as Record<string, typeof transformers.AutoModel | undefined>
  const model = await (classes[architecture] ?? transformers.AutoModel).from_pretrained(
    folder.split('/').at(-1) as string,
    {
      device: 'webgpu',
      dtype: dtype as 'fp32',
      subfolder: graph,
      use_external_data_format: externalData,
    },
  )
  return model as unknown as Model
}

/** Inputs and torch's outputs. */
async function expectedOf({ expected, outputs }: Job) {
  const bytes = await (await fetch(expected)).arrayBuffer()
  const inputs: Record<string, transformers.Tensor> = {}
  const references = new Map<string, Values>()
  for (const tensor of (await readSafetensors(memorySource(bytes))).tensors) {
    if (outputs.includes(tensor.name.split('.')[0])) {
      references.set(tensor.name, { data: await readFloats(tensor), dims: tensor.shape })
    } else inputs[tensor.name] = await inputOf(tensor)
  }
  return { inputs, references }
}

async function inputOf(tensor: StoredTensor): Promise<transformers.Tensor> {
  const dims = [...tensor.shape]
  if (tensor.dtype !== 'I64') return new transformers.Tensor('float32', await readFloats(tensor), dims)
  const bytes = await tensor.source.read(tensor.offset, tensor.bytes)
  return new transformers.Tensor('int64', new BigInt64Array(bytes.buffer), dims)
}

/** Logits, or the first output of a model that has none. */
async function outputOf(model: Model, inputs: Record<string, transformers.Tensor>): Promise<Values> {
  const output = await model.forward({ ...inputs })
  const tensors = Object.values(output).filter((value) => value instanceof transformers.Tensor)
  const wanted = output.logits ?? tensors[0]
  const data = Float32Array.from(wanted.to('float32').data as Float32Array)
  for (const tensor of tensors) if (tensor.location === 'gpu-buffer') tensor.dispose()
  return { data, dims: wanted.dims }
}

function messageOf(error: unknown): string {
  const { message, cause } = error as Error
  return cause instanceof Error ? `${message} (${cause.message})` : message
}

/** One of the two ways to the same hoisted base. */
interface Prepared {
  how: string
  model: Model
  attached: AttachedExperts
  hash: string
}

async function attach(
  how: string,
  model: Model,
  { graph, dtype }: Job,
  folder: string,
  device: GPUDevice,
  quantized: 'float' | 'keep' = 'float',
): Promise<Prepared> {
  const attached = await attachExperts(model, {
    model: folder,
    subfolder: graph,
    dtype,
    device,
    quantized,
    fetch: { cacheBudget: 0 },
  })
  return { how, model, attached, hash: await attached.hashWeights() }
}

/** A binding other than a merge, and what is asked for to get it. */
interface Beside {
  binding: 'side' | 'input'
  choice: 'auto' | 'side' | 'input'
}

/** The outputs that an expert file must lead to; undefined where there is no reference. */
type Reference = (file: JobExpert['files'][number]) => Promise<Values | undefined>

/** How far the outputs with an expert are from the reference, or undefined if there is none of any of its files. */
async function tryExpert(
  { how, model, attached, hash }: Prepared,
  { name, files }: JobExpert,
  inputs: Record<string, transformers.Tensor>,
  referenceOf: Reference,
  tolerance: number,
  beside?: Beside,
): Promise<Outcome | undefined> {
  let maxDiff: number | undefined
  for (const file of files) {
    const reference = await referenceOf(file)
    if (reference === undefined) continue
    const expert = await attached.load({ source: file.url, label: name, binding: beside?.choice ?? 'merge' })
    await attached.activate(expert)
    if (beside !== undefined) {
      const [{ tensors }] = attached.stats().active
      // What is not ternary goes in as floats.
      const isTernary = file.expected.endsWith('.compeft')
      const binding = isTernary ? beside.binding : 'input'
      if (tensors[binding] === 0) return { error: `${file.expected} is not bound by ${binding}` }
    }
    const off = relativeDifference(await outputOf(model, inputs), reference)
    maxDiff = Math.max(maxDiff ?? 0, off)
    await attached.deactivate()
    await expert.release()
    if (!(off <= tolerance))
      return { maxDiff: off, error: `${file.expected} ${how} differs from its reference` }
    if ((await attached.hashWeights()) !== hash)
      return { maxDiff, error: `${file.expected} ${how} leaves other weights behind` }
  }
  return maxDiff === undefined ? undefined : { maxDiff }
}

/** Both ways, against one kind of reference. */
async function tryWays(
  ways: readonly Prepared[],
  expert: JobExpert,
  inputs: Record<string, transformers.Tensor>,
  referenceOf: Reference,
  tolerance: number,
  beside?: Beside,
): Promise<Outcome | undefined> {
  let outcome: Outcome | undefined
  for (const way of ways) {
    try {
      const own = await tryExpert(way, expert, inputs, referenceOf, tolerance, beside)
      if (own === undefined) return undefined
      outcome = {
        maxDiff: Math.max(outcome?.maxDiff ?? 0, own.maxDiff ?? 0),
        error: outcome?.error ?? own.error,
      }
    } catch (error) {
      return { ...outcome, error: `${way.how}: ${messageOf(error)}` }
    }
  }
  return outcome
}

/** An expert for weights that a merge cannot reach must be refused with an error that names one of them. */
async function tryRefusal(ways: readonly Prepared[], { name, files, integers }: JobExpert): Promise<Outcome> {
  for (const { how, attached } of ways) {
    for (const { url } of files) {
      const error: unknown = await attached.load({ source: url, label: name, binding: 'merge' }).then(
        () => undefined,
        (reason) => reason,
      )
      const isRefused =
        isTritswapError(error, 'unsupported') && integers.includes(error.fields.target as string)
      if (!isRefused)
        return { error: `${how}: ${error === undefined ? 'it is not refused' : messageOf(error)}` }
    }
  }
  return {
    skipped: `a merge cannot reach ${integers.length} of its targets, which are integers in this graph, first ${integers[0]}`,
  }
}

/** Why an expert cannot be loaded, if the exporter folded the weights that it changes; undefined if it can. */
async function tryFolded(
  ways: readonly Prepared[],
  { name, files, absent }: JobExpert,
): Promise<Outcome | undefined> {
  if (absent.length === 0) return undefined
  for (const { attached } of ways) {
    for (const { url } of files) {
      const error: unknown = await attached.load({ source: url, label: name, binding: 'merge' }).then(
        (expert) => expert.release(),
        (reason) => reason,
      )
      const isNamed =
        isTritswapError(error, 'mapping') &&
        (error.fields.unmapped as string[] | undefined)?.some((target) => absent.includes(target))
      if (!isNamed) return undefined
    }
  }
  return {
    skipped: `the exporter of this graph folded ${absent.length} of its targets into other weights, first ${absent[0]}`,
  }
}

/** What is said of a graph that transformers.js alone does not run. */
function notOpened({ experts }: Job, error: unknown): JobResult {
  const [, why = messageOf(error)] = /ERROR_MESSAGE: (?:.*\(\) )?(.*)/.exec(messageOf(error)) ?? []
  const outcome: Outcome = {
    skipped: `onnxruntime does not open the graph as it was exported: ${why.trim()}`,
  }
  const all = Object.fromEntries(experts.map(({ name }) => [name, outcome]))
  return { base: outcome, experts: all, beside: all }
}

const compat = {
  async hasF16(): Promise<boolean> {
    const adapter = await navigator.gpu?.requestAdapter()
    return adapter?.features.has('shader-f16') ?? false
  },

  async run(job: Job): Promise<JobResult> {
    configure(job)
    const result: JobResult = { base: {}, experts: {}, beside: {} }
    const tolerance = TOLERANCES[job.dtype] ?? QUANTIZED_TOLERANCE
    const { inputs, references } = await expectedOf(job)
    const isQuantized = /^q4/.test(job.dtype)
    const isInteger = job.dtype === 'q8'
    const isF16 = /fp?16/.test(job.dtype)
    let model: Model
    try {
      model = await load(job)
    } catch (error) {
      return notOpened(job, error)
    }
    const second = await load(job)
    const third = isQuantized ? await load(job) : undefined
    const plain = await outputOf(model, inputs)
    const sessions = { ...model.sessions } as Record<string, { config?: unknown }>
    const InferenceSession = Object.values(sessions)[0].constructor as unknown as SessionClass
    // One device for both: onnxruntime-web compiles its kernels once for each.
    const { device } = await requestGpu()
    const ways = [
      await attach('prepared in the browser', model, job, job.folder, device),
      await attach('prepared on the command line', second, job, job.prepared, device),
    ]
    const kept = third && (await attach('kept quantized', third, job, job.folder, device, 'keep'))
    try {
      let worst = 0
      for (const { how, model } of ways) {
        const off = relativeDifference(await outputOf(model, inputs), plain)
        worst = Math.max(worst, off)
        if (!(off <= tolerance)) result.base.error ??= `the base ${how} differs from the plain session`
      }
      result.base.maxDiff = worst
      // Torch was run on f32 weights and on dequantized ones: its outputs count where the plain session meets those of
      // its own kind. To be near the others is no more than chance, and an expert that is large ends it.
      const suffix = [isQuantized ? '.q4' : ''].find((end) => {
        const reference = references.get(`base${end}`)
        return reference !== undefined && relativeDifference(plain, reference) <= tolerance
      })
      const torch: Reference = async ({ expected }) =>
        suffix === undefined ? undefined : references.get(`${expected}${suffix}`)
      const opened = new Map<string, CpuReference>()
      const withMerged = async (provider: 'wasm' | 'webgpu', url?: string) => {
        const reference =
          opened.get(provider) ?? (await CpuReference.open(job, sessions, InferenceSession, provider))
        opened.set(provider, reference)
        const own = { sessions: { value: await reference.sessions(url) } }
        return outputOf(Object.create(model, own) as Model, inputs)
      }
      const onCpu = (url?: string) => withMerged('wasm', url)
      const onGpu: Reference = ({ url }) => withMerged('webgpu', url)
      let isCpuGood: boolean | undefined
      const merged: Reference = async ({ url }) => {
        isCpuGood ??= relativeDifference(await onCpu(), plain) <= tolerance
        return isCpuGood ? onCpu(url) : undefined
      }
      for (const expert of job.experts) {
        const folded = await tryFolded(ways, expert)
        result.experts[expert.name] =
          folded ??
          (expert.integers.length > 0 ? await tryRefusal(ways, expert) : await tryBinding(ways, expert))
        const { name, beside: binding, files, onFloats } = expert
        if (binding === undefined) continue
        // Beside floats the uncompressed one is no ternary.
        const ternary = binding === 'side' && onFloats ? files.slice(1) : files
        const choice = binding === 'side' && !onFloats ? 'auto' : binding
        result.beside[name] =
          folded ?? (await tryBinding([kept ?? ways[0]], { ...expert, files: ternary }, { binding, choice }))
      }
      for (const reference of opened.values()) await reference.release()

      /**
       * An adapter may make the f16 graph's own rounding large: it is then as far from f32 in a plain session of weights
       * that the CPU merged. Undefined where it is not.
       */
      async function tryRounding(
        { maxDiff }: Outcome,
        like: (reference: Reference) => Promise<Outcome | undefined>,
        { files: [file] }: JobExpert,
      ): Promise<Outcome | undefined> {
        const plainly = await onGpu(file)
        const reference = (await torch(file)) ?? (await merged(file))
        if (plainly === undefined || reference === undefined) return undefined
        const off = relativeDifference(plainly, reference)
        if (off <= tolerance) return undefined
        const said = `a plain f16 session of weights merged on the CPU is ${off.toExponential(1)} from f32 arithmetic with it`
        const same = await like(onGpu)
        return same?.error === undefined
          ? { ...same, note: `compared with that: ${said}` }
          : { maxDiff, skipped: said }
      }

      async function tryBinding(
        ways: readonly Prepared[],
        expert: JobExpert,
        beside?: Beside,
      ): Promise<Outcome> {
        const like = (reference: Reference, allowed = tolerance) =>
          tryWays(ways, expert, inputs, reference, allowed, beside)
        if (beside !== undefined && isInteger) {
          // These graphs round in their own way: an expert may be somewhat farther from torch than the graph itself is.
          const rounding = relativeDifference(plain, references.get('base') as Values)
          const outcome = await like(
            async ({ expected }) => references.get(expected),
            Math.max(4 * rounding, ROUNDED_TOLERANCE),
          )
          return (
            (outcome && {
              ...outcome,
              note: `the graph itself is ${rounding.toExponential(1)} from torch`,
            }) ?? { skipped: NO_REFERENCE }
          )
        }
        const isAlone = suffix !== undefined && references.has(`${expert.name}${suffix}`)
        let why = isAlone ? 'torch has outputs of the uncompressed adapter alone' : NO_REFERENCE
        if (expert.unquantized.length > 0) {
          why = `torch has ${expert.unquantized.join(', ')} in f32, and a task vector is added to what the graph has`
        } else {
          // Where torch has the adapter alone, what is decoded of the compressed one is merged on the CPU.
          const either: Reference = async (file) => (await torch(file)) ?? merged(file)
          const hasTorch = expert.files.some(({ expected }) => references.has(`${expected}${suffix ?? ''}`))
          const outcome = suffix !== undefined && hasTorch ? await like(either) : undefined
          if (isF16 && outcome?.error !== undefined && outcome.maxDiff !== undefined)
            return (await tryRounding(outcome, like, expert)) ?? outcome
          if (outcome !== undefined) return outcome
        }
        const outcome = await like(merged)
        if (outcome === undefined) return { skipped: why }
        return { ...outcome, note: `compared with weights merged on the CPU: ${why}` }
      }
    } finally {
      for (const { attached } of kept ? [...ways, kept] : ways) await attached.dispose()
      device.destroy()
    }
    return result
  },
}

const more = {
  /** One graph as a bare onnxruntime-web session: outputs plain, attached, with an expert and without it again. */
  async bare(job: Job, expert: string) {
    configure(job)
    const { inputs } = await expectedOf(job)
    const owner = await load(job)
    const InferenceSession = (owner.sessions.model as object).constructor as unknown as SessionClass
    const bytes = new Uint8Array(await (await fetch(`${job.folder}/${job.graph}/model.onnx`)).arrayBuffer())
    const plain = await InferenceSession.create(bytes, { executionProviders: ['webgpu'] })
    const feeds = Object.fromEntries(plain.inputNames.map((name) => [name, inputs[name].ort_tensor]))
    const run = async (session: OrtSession) => {
      const output = (await session.run(feeds)) as Record<string, { data: Float32Array }>
      return Array.from(output.logits.data)
    }
    const outputs = { plain: await run(plain) } as Record<string, number[]>
    let workers = 0
    const attached = await attachExperts(plain, {
      graphs: { model: bytes },
      name: 'bare',
      createFetchWorker() {
        workers++
        return new Worker(new URL('../../src/fetcher/worker.ts', import.meta.url), { type: 'module' })
      },
    })
    outputs.attached = await run(attached.session)
    await attached.activate(await attached.load(expert))
    outputs.active = await run(attached.session)
    await attached.deactivate()
    outputs.reverted = await run(attached.session)
    const { inputNames } = attached.session
    const twice = await attachExperts(attached.session, { graphs: { model: bytes } }).catch(messageOf)
    await attached.dispose()
    return { outputs, inputNames, twice, workers }
  },

  /**
   * A quantized model: outputs plain and with its weights kept quantized in our buffers, and whether those that are
   * dequantized there have the bits of the CPU's.
   */
  async quantized(job: Job) {
    configure(job)
    const { inputs } = await expectedOf(job)
    const plain = await outputOf(await load(job), inputs)
    // One device for all: onnxruntime-web compiles its kernels once for each.
    const { device } = await requestGpu()
    const opened: AttachedExperts[] = []
    const options = { subfolder: job.graph, dtype: job.dtype, device, fetch: { cacheBudget: 0 } }
    const tryFolder = async (model: string, quantized: 'keep' | 'float') => {
      const owner = await load(job)
      const attached = await attachExperts(owner, { model, quantized, ...options })
      const output = await outputOf(owner, inputs)
      opened.push(attached)
      const hash = await attached.hashWeights()
      const { base } = attached.stats().vram
      return { off: relativeDifference(output, plain), hash, bytes: base }
    }
    const weights = await ReferenceWeights.open(
      memorySource(await (await fetch(`${job.prepared}/weights.trit`)).arrayBuffer(), 'weights.trit'),
    )
    const feeds = new Map(weights.bindings.graphs.flatMap(({ file }) => [...weights.feeds(file)]))
    const hashes: number[] = []
    for (const name of [...feeds.keys()].sort()) {
      const { buffer, byteOffset, byteLength } = feeds.get(name)!.data
      hashes.push(...(await sha256(new Uint8Array(buffer, byteOffset, byteLength))))
    }
    const found = {
      kept: await tryFolder(job.folder, 'keep'),
      float: await tryFolder(job.folder, 'float'),
      prepared: await tryFolder(job.prepared, 'float'),
      onCpu: toHex(await sha256(Uint8Array.from(hashes))),
      refusal: await tryFolder(job.prepared, 'keep').catch(messageOf),
    }
    for (const attached of opened) await attached.dispose()
    device.destroy()
    return found
  },

  /** An unprepared model folder as text: `ExpertLoader` against transformers.js alone. */
  async text(job: Job, prompt: string, expert: string) {
    configure(job)
    const loader = await ExpertLoader.create({
      model: job.folder,
      subfolder: job.graph,
      dtype: job.dtype,
    })
    const expertOf = await loader.load(expert)
    const base = Array.from(await loader.logits(prompt))
    const active = Array.from(await loader.logits(prompt, expertOf))
    const tokens: number[] = []
    for await (const { token } of loader.generate(prompt, { maxNewTokens: 3 })) tokens.push(token)
    const ids = await loader.tokenize(prompt)
    const { info } = loader
    await loader.dispose()
    const model = await load(job)
    const dims = [1, ids.length]
    const { data } = lastPositions(
      await outputOf(model, {
        input_ids: new transformers.Tensor('int64', BigInt64Array.from(ids, BigInt), dims),
        attention_mask: new transformers.Tensor('int64', new BigInt64Array(ids.length).fill(1n), dims),
      }),
    )
    await model.dispose()
    return { plain: Array.from(data), base, active, tokens, info }
  },

  /** The error of opening what cannot be opened. */
  async refusal(options: LoaderOptions) {
    try {
      await ExpertLoader.create(options)
    } catch (error) {
      return { tag: isTritswapError(error) ? error.tag : undefined, message: (error as Error).message }
    }
    return undefined
  },
}

export type Compat = typeof compat & typeof more
declare global {
  interface Window {
    compat: Compat
  }
}
window.compat = { ...compat, ...more }
