/**
 * How the weights of running sessions get into VRAM, and the graphs that sessions are created from anew.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import type { LocalFetches } from '../fetcher/local.ts'
import { readModelManifest } from '../fetcher/manifest.ts'
import type { FetchPool } from '../fetcher/pool.ts'
import { progressReporter } from '../fetcher/progress.ts'
import type { FetchProgress, FetchSettings } from '../fetcher/protocol.ts'
import { receiveFile } from '../fetcher/receive.ts'
import type { Gpu } from '../gpu/index.ts'
import type { ConfiguredSession } from '../model/create_session.ts'
import { type FilledBase, hoistIntoVram, readIntoVram } from '../model/filled_base.ts'
import { externalFiles, fetchGraph, graphPath, modelTypeOf, moduleOf } from '../model/graph_files.ts'
import { type GraphFile, OnnxGraph, type QuantizedChoice } from '../onnx/index.ts'
import { folderName, folderUrl } from '../source/model_folder.ts'
import type { ByteSource } from '../source/source.ts'

/** An ONNX file: where it is, or its bytes. */
export type GraphSpec = string | URL | Uint8Array<ArrayBuffer> | ByteSource

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
   * Graphs by the name of their session, where they are not `<subfolder>/<session name>.onnx`. A bare session is called
   * `model`.
   */
  graphs?: Readonly<Record<string, GraphSpec>>
  /** External data of graphs that are given as bytes, by the name that the graph calls it. */
  external?: (location: string) => ByteSource
  /** To run on; by default a new one. Sessions that get GPU tensors from elsewhere need the device of those. */
  device?: GPUDevice
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
    options.model === undefined ? undefined : folderUrl(options.model, baseUrl(), options.fetch?.hub)
  const name = options.name ?? (folder === undefined ? 'the model' : folderName(folder))
  const manifest = folder === undefined ? undefined : await readModelManifest(folder, signal)
  const pathOf = (session: string) =>
    graphPath(
      moduleOf(session, Object.keys(sessions)),
      manifest?.dtype ?? options.dtype ?? sessions[session].config?.dtype ?? 'fp32',
      subfolder,
    )

  if (folder && manifest) {
    const file = fetches.load(
      {
        source: new URL(manifest.weights.file, folder).href,
        rootHash: manifest.weights.rootHash,
        kind: 'base',
        name,
      },
      options,
    )
    const filled = receiveFile(file.port, file.signal).then((incoming) =>
      readIntoVram(gpu, incoming, manifest.dtype, options),
    )
    const [base] = await Promise.all([filled, file.done])
    const ready: Record<string, GraphFile> = {}
    for (const session of Object.keys(sessions)) {
      ready[session] = await fetchGraph(folder, pathOf(session), { signal })
    }
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
    sources[session] =
      given === undefined
        ? await fetchGraph(folder as string, pathOf(session), {
            signal,
            onBytes: reporter(name, pathOf(session), options),
          })
        : await givenGraph(session, given, options)
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

function reporter(name: string, file: string, { onProgress }: AttachOptions) {
  const report = progressReporter(name, file, onProgress)
  return (loaded: number, total: number | undefined) => report('progress', 'network', loaded, total)
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
    const url = new URL(given, baseUrl())
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

/** What relative addresses are relative to: the page's base URL; in a worker, its script. Undefined in Node. */
export function baseUrl(): string | undefined {
  return globalThis.document?.baseURI ?? globalThis.location?.href
}
