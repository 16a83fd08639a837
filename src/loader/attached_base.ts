/**
 * How the weights of running sessions get into VRAM, and the graphs that sessions are created from anew.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import type { LocalFetches } from '../fetcher/local.ts'
import { dtypeIn, preparedPaths, readModelManifest, weightsRequest } from '../fetcher/manifest.ts'
import type { FetchPool } from '../fetcher/pool.ts'
import { progressReporter } from '../fetcher/progress.ts'
import type { FetchProgress, FetchSettings } from '../fetcher/protocol.ts'
import { receiveFile } from '../fetcher/receive.ts'
import { checkDtype, type Gpu } from '../gpu/index.ts'
import type { ConfiguredSession } from '../model/create_session.ts'
import { type FilledBase, hoistIntoVram, readIntoVram } from '../model/filled_base.ts'
import { externalFiles, fetchGraph, modelTypeOf } from '../model/graph_files.ts'
import { graphPath } from '../model/graph_path.ts'
import { isGraphOf, modulesOf } from '../model/session_graph.ts'
import { type GraphFile, OnnxGraph, type QuantizedChoice } from '../onnx/index.ts'
import { isAbsence } from '../source/http_request.ts'
import { folderName, folderUrl } from '../source/model_folder.ts'
import type { ByteSource } from '../source/source.ts'
import { pageUrl } from './page_url.ts'

/** An ONNX file: where it is, or its bytes. */
export type GraphSpec = string | URL | Uint8Array<ArrayBuffer> | ByteSource

/** `GPUDevice`; any object where the project has no declarations of WebGPU, which TypeScript's own libraries may lack. */
export type OwnDevice = typeof globalThis extends { GPUDevice: { prototype: infer Device } } ? Device : object

export interface AttachOptions {
  /**
   * Folder that the sessions were made from: a URL, absolute or relative to the page, or `hf:owner/name@revision`. One
   * that `tritswap prepare` wrote is used as it is; of any other the graphs are rewritten here. Needed unless `graphs`
   * names every graph.
   */
  model?: string | URL
  /** Of the graphs, as transformers.js names it; by default what the sessions say they are, else `fp32`. */
  dtype?: string
  /**
   * What becomes of weights that are quantized by blocks (q4, q4f16): `float` dequantizes them in VRAM, so that experts
   * can be merged into them (the default); `keep` leaves them as small as they are. A prepared folder has its choice
   * made.
   */
  quantized?: QuantizedChoice
  /** Folder of the graphs in `model`; `onnx` by default. */
  subfolder?: string
  /**
   * File that the session `model` was made from, without `.onnx` and the suffix of its dtype: transformers.js's
   * `model_file_name`. By default the file among those that transformers.js knows which has the session's inputs and
   * outputs.
   */
  modelFileName?: string
  /**
   * Graphs by the name of their session, where they are not `<subfolder>/<session name>.onnx`. A bare session is called
   * `model`.
   */
  graphs?: Readonly<Record<string, GraphSpec>>
  /** External data of graphs that are given as bytes, by the name that the graph calls it. */
  external?: (location: string) => ByteSource
  /** To run on; by default a new one. Sessions that get GPU tensors from elsewhere need the device of those. */
  device?: OwnDevice
  /** Added to what the sessions are created anew with. */
  sessionOptions?: Readonly<Record<string, unknown>>
  /** For messages. */
  name?: string
  /** VRAM for compressed experts, in bytes; the least recently used go first. */
  expertBudget?: number
  fetch?: FetchSettings
  /**
   * Starts a worker that runs `src/fetcher/worker.ts` of the repository, which the package does not export: experts are
   * then fetched and verified there and not on this thread.
   */
  createFetchWorker?: () => Worker
  onProgress?: (progress: FetchProgress) => void
  onWarning?: (message: string) => void
  /** Ends the attaching; the sessions stay as they were. */
  signal?: AbortSignal
}

/** A base in VRAM, with the graph of each session. */
export interface OpenedBase {
  base: FilledBase
  graphs: Record<string, GraphFile>
  name: string
  fingerprint?: string
}

/**
 * Brings the base of running sessions into VRAM, from a prepared folder or from the graphs themselves.
 * @throws {TritswapError} `input` for graphs that are unknown or cannot be rewritten, `network`, `webgpu`, `memory`
 */
export async function openBase(
  gpu: Gpu,
  sessions: Record<string, ConfiguredSession>,
  options: AttachOptions,
  fetches: FetchPool | LocalFetches,
): Promise<OpenedBase> {
  const { signal, graphs = {}, subfolder } = options
  const folder =
    options.model === undefined ? undefined : folderUrl(options.model, pageUrl(), options.fetch?.hub)
  const name = options.name ?? (folder === undefined ? 'the model' : folderName(folder))
  const manifest = folder === undefined ? undefined : await readModelManifest(folder, signal)
  const prepared = manifest && dtypeIn(manifest, options.dtype)
  /** Paths in the folder that a session may have been made from, the likeliest first. */
  const pathsOf = (session: string): string[] => {
    const dtype = prepared ?? options.dtype ?? sessions[session].config?.dtype ?? 'fp32'
    checkDtype(gpu.features, dtype)
    const modules = modulesOf(session, Object.keys(sessions), sessions[session])
    const { modelFileName } = options
    const named = modelFileName !== undefined && modules.includes('model') ? [modelFileName] : modules
    const paths = named.map((module) => graphPath(module, dtype, subfolder))
    return manifest ? preparedPaths(manifest, paths) : paths
  }

  if (folder && manifest) {
    const ready: Record<string, GraphFile> = {}
    for (const session of Object.keys(sessions)) {
      ready[session] = await matchingGraph(session, sessions[session], pathsOf(session), true, (path) =>
        fetchGraph(folder, path, { signal }),
      )
    }
    const file = fetches.load({ ...weightsRequest(manifest, folder), name }, options)
    const filled = receiveFile(file.port, file.signal).then((incoming) =>
      readIntoVram(gpu, incoming, prepared!, options),
    )
    const [base] = await Promise.all([filled, file.done])
    return { base, graphs: ready, name, fingerprint: manifest.fingerprint }
  }

  const sources: Record<string, GraphFile> = {}
  for (const session of Object.keys(sessions)) {
    const given = graphs[session]
    if (given === undefined && folder === undefined) {
      throw new TritswapError(
        'input',
        `Cannot attach experts: the graph of session ${session} is not known; give the model's folder or graphs.${session}`,
        { fields: { session } },
      )
    }
    const paths = given === undefined ? pathsOf(session) : [`graphs.${session}`]
    sources[session] = await matchingGraph(session, sessions[session], paths, false, (path) =>
      given === undefined
        ? fetchGraph(folder as string, path, { signal, onBytes: reporter(name, path, options) })
        : givenGraph(session, given, options),
    )
  }
  const base = await hoistIntoVram(gpu, Object.values(sources), {
    signal,
    quantized: options.quantized,
    modelType: folder === undefined ? undefined : await modelTypeOf(folder, signal),
    onBytes: reporter(name, 'weights', options),
  })
  const ready = Object.entries(sources).map(([session, { graph, external }]) => {
    const hoisted = base.graphs.find((candidate) => candidate.graph.file === graph.file)
    return [session, { graph: hoisted!.graph, external }] as [string, GraphFile]
  })
  return { base, graphs: Object.fromEntries(ready), name }
}

/** There is no such file, or a single-page app answers with its page instead. */
function isMissing({ tag, fields: { status } }: TritswapError): boolean {
  return tag === 'input' || (tag === 'network' && typeof status === 'number' && isAbsence(status))
}

/**
 * The first of several graphs that has the inputs and outputs of a session.
 * @throws {TritswapError} `input` where none has, `network`
 */
async function matchingGraph(
  session: string,
  signature: ConfiguredSession,
  paths: readonly string[],
  prepared: boolean,
  open: (path: string) => Promise<GraphFile>,
): Promise<GraphFile> {
  const others: string[] = []
  let failure: unknown
  for (const path of paths) {
    try {
      const source = await open(path)
      if (isGraphOf(signature, source.graph, prepared)) return source
      others.push(path)
    } catch (error) {
      if (!isTritswapError(error) || !isMissing(error)) throw error
      failure ??= error
    }
  }
  if (others.length === 0) throw failure
  const { inputNames, outputNames = [] } = signature
  throw new TritswapError(
    'input',
    `Cannot attach experts: session ${session} takes ${inputNames.join(', ')} and gives ${outputNames.join(', ')}, which is not so of ${others.join(', ')}; name the file that it was made from with the option modelFileName or graphs.${session}`,
    { fields: { session, inputNames: [...inputNames], outputNames: [...outputNames], graphs: others } },
  )
}

function reporter(name: string, file: string, { onProgress }: AttachOptions) {
  const report = progressReporter(name, file, onProgress)
  return (loaded: number, total: number | undefined) => void report('progress', 'network', loaded, total)
}

/** A graph that the caller has, or knows the address of. */
async function givenGraph(session: string, given: GraphSpec, options: AttachOptions): Promise<GraphFile> {
  const file = `${session}.onnx`
  const unknown = (location: string): never => {
    throw new TritswapError(
      'input',
      `Cannot read ${location} of session ${session}: give its bytes with the option external`,
      { fields: { session, location } },
    )
  }
  if (given instanceof Uint8Array)
    return { graph: new OnnxGraph(file, given), external: options.external ?? unknown }
  if (typeof given === 'string' || given instanceof URL) {
    const url = new URL(given, pageUrl())
    const { graph } = await fetchGraph(url.href, url.href, {
      signal: options.signal,
      onBytes: reporter(options.name ?? session, file, options),
    })
    return { graph: new OnnxGraph(file, graph.bytes), external: options.external ?? externalFiles(url.href) }
  }
  const size = await given.size()
  if (size === undefined) {
    throw new TritswapError('input', `Cannot read the graph of session ${session}: its size is not known`)
  }
  const bytes = await given.read(0, size, options)
  return { graph: new OnnxGraph(file, bytes), external: options.external ?? unknown }
}
