/**
 * The files of a model folder on the web: where its graphs are, how they and the data beside them are fetched.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../errors.ts'
import { DTYPE_SUFFIX, isModelDtype } from '../format/dtype.ts'
import { type GraphFile, OnnxGraph } from '../onnx/index.ts'
import { httpSource, type Meter } from '../source/http.ts'
import { memorySource } from '../source/memory.ts'
import { fileWithCopy, type UseOfCopies } from '../source/offline_copy.ts'
import { withRetry } from '../source/retry.ts'
import type { ByteSource } from '../source/source.ts'

/** Where transformers.js looks for graphs. */
export const GRAPH_FOLDER = 'onnx'
/** Path of a graph in its folder, as transformers.js builds it. @throws {TritswapError} `input` for an unknown dtype */
export function graphPath(module: string, dtype: string, subfolder = GRAPH_FOLDER): string {
  if (!isModelDtype(dtype)) {
    throw new TritswapError(
      'input',
      `Cannot find graphs of dtype ${dtype}: expected one of ${Object.keys(DTYPE_SUFFIX).join(', ')}`,
      { fields: { dtype } },
    )
  }
  const file = `${module}${DTYPE_SUFFIX[dtype]}.onnx`
  return subfolder === '' ? file : `${subfolder}/${file}`
}

/**
 * Where a graph of a prepared folder lies, and in which folder of it.
 * @param prepared - `graphs` are paths of all; without them it is where transformers.js looks by default
 */
export function preparedGraph(
  module: string,
  { dtype, graphs = [] }: { dtype: string; graphs?: readonly string[] },
): { path: string; subfolder: string } {
  const file = graphPath(module, dtype, '')
  const path =
    graphs.find((graph) => graph === file || graph.endsWith(`/${file}`)) ?? graphPath(module, dtype)
  return { path, subfolder: path.slice(0, -file.length).replace(/\/$/, '') }
}

/** The file that transformers.js makes a session from: an encoder is its session `model` where a decoder is beside it. */
export function moduleOf(session: string, all: readonly string[]): string {
  return session === 'model' && all.includes('decoder_model_merged') ? 'encoder_model' : session
}

/** Bytes so far, of those known of. */
export type BytesReport = (loaded: number, total: number | undefined) => void

/**
 * Fetches a graph whole; what it keeps in files beside it is fetched when it is needed.
 * @param options.copies - keep a copy, and when to take it; none by default
 * @throws {TritswapError} `network`, with `fields.status` 404 where there is none
 */
export async function fetchGraph(
  folder: string,
  file: string,
  { signal, onBytes, copies }: { signal?: AbortSignal; onBytes?: BytesReport; copies?: UseOfCopies } = {},
): Promise<GraphFile> {
  const url = new URL(file, folder).href
  const bytes = await (copies ? fetchWithCopy(url, copies, signal) : fetchWhole(url, { signal, onBytes }))
  return { graph: new OnnxGraph(file, bytes), external: externalFiles(url) }
}

/** Data files beside the graph at `url`: one source for each. */
export function externalFiles(url: string): (location: string) => ByteSource {
  const sources = new Map<string, ByteSource>()
  return (location) => {
    const known = sources.get(location)
    if (known !== undefined) return known
    const source = seekableSource(new URL(location, url).href, location)
    sources.set(location, source)
    return source
  }
}

/**
 * A remote file for reads here and there. Where the server ignores Range, one request brings all of it and the rest
 * is served from memory.
 */
function seekableSource(url: string, name: string): ByteSource {
  const remote = withRetry(httpSource(url))
  let whole: Promise<ByteSource> | undefined
  return {
    name,
    size: (options) => remote.size(options),
    async read(offset, length, options) {
      if (whole === undefined) {
        const bytes = await remote.read(offset, length, options)
        if (remote.seekable !== false) return bytes
        whole ??= fetchWhole(url, options).then((all) => memorySource(all, name))
        whole.catch(() => {
          whole = undefined
        })
      }
      return (await whole).read(offset, length, options)
    },
    async *stream(offset, options) {
      yield* remote.stream!(offset, options)
    },
    get seekable() {
      return remote.seekable
    },
  }
}

async function fetchWhole(
  url: string,
  { signal, onBytes }: { signal?: AbortSignal; onBytes?: BytesReport } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const meter: Meter = { requests: 0, bytes: 0 }
  const source = withRetry(httpSource(url, { meter }))
  let bytes: Uint8Array<ArrayBuffer> | undefined
  let length = 0
  for await (const piece of source.stream!(0, { signal })) {
    const total = await source.size()
    bytes ??= new Uint8Array(total ?? piece.length)
    if (length + piece.length > bytes.length) {
      const larger = new Uint8Array(Math.max(length + piece.length, 2 * bytes.length))
      larger.set(bytes.subarray(0, length))
      bytes = larger
    }
    bytes.set(piece, length)
    length += piece.length
    onBytes?.(length, total)
  }
  return (bytes ?? new Uint8Array()).subarray(0, length)
}

async function fetchWithCopy(
  url: string,
  copies: UseOfCopies,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const get = async () => new Response(await fetchWhole(url, { signal }))
  return new Uint8Array(await (await fileWithCopy(url, copies, get)).arrayBuffer())
}

/** `model_type` of the configuration of a model folder; undefined where there is none. */
export async function modelTypeOf(
  folder: string,
  signal?: AbortSignal,
  copies?: UseOfCopies,
): Promise<string | undefined> {
  try {
    const url = new URL('config.json', folder).href
    const bytes = await (copies ? fetchWithCopy(url, copies, signal) : fetchWhole(url, { signal }))
    const config = JSON.parse(new TextDecoder().decode(bytes)) as { model_type?: unknown }
    return typeof config?.model_type === 'string' ? config.model_type : undefined
  } catch (error) {
    signal?.throwIfAborted()
    // A configuration that is missing or malformed is reported by the code that needs more of it than this name.
    if (isTritswapError(error) || error instanceof SyntaxError) return undefined
    throw error
  }
}
