/**
 * The files of a model folder on the web: where its graphs are, how they and the data beside them are fetched.
 *
 * @module
 */
import { isTritswapError } from '../errors.ts'
import { type GraphFile, OnnxGraph } from '../onnx/index.ts'
import { httpSource, type Meter } from '../source/http.ts'
import { memorySource } from '../source/memory.ts'
import { shortOrMistaken, TELLING_BYTES } from '../source/mistaken_file.ts'
import { fileWithCopy, type UseOfCopies } from '../source/offline_copy.ts'
import { withRetry } from '../source/retry.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { graphPath } from './graph_path.ts'

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
 * A remote file for reads here and there. The first of them asks for one byte, and the others wait for the answer: from
 * a server that ignores Range it is the whole file, which then serves all of them from memory.
 */
function seekableSource(url: string, name: string): ByteSource {
  const remote = withRetry(httpSource(url))
  let opened: Promise<ByteSource> | undefined
  const source = (options?: ReadOptions) => {
    opened ??= open(options)
    opened.catch(() => {
      opened = undefined
    })
    return opened
  }

  async function open(options?: ReadOptions): Promise<ByteSource> {
    const pieces: Uint8Array<ArrayBuffer>[] = []
    for await (const piece of remote.stream!(0, { ...options, end: 1 })) pieces.push(piece)
    if (remote.seekable !== false) return remote
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer())
    // A body that ends early is whole as far as the request for one byte went.
    const size = await remote.size()
    return memorySource(
      size === undefined || size === bytes.length ? bytes : await fetchWhole(url, options),
      name,
    )
  }

  return {
    name,
    size: async (options) => (await source(options)).size(options),
    async read(offset, length, options) {
      const from = await source(options)
      try {
        return await from.read(offset, length, options)
      } catch (error) {
        if (!isTritswapError(error, 'format')) throw error
        throw shortOrMistaken(error, await startOf(from, options))
      }
    },
    async *stream(offset, options = {}) {
      const from = await source(options)
      if (from.stream) yield* from.stream(offset, options)
      else yield await from.read(offset, (options.end ?? (await from.size())!) - offset, options)
    },
    get seekable() {
      return remote.seekable
    },
  }
}

/** The first bytes of a file; none where they cannot be had. */
async function startOf(source: ByteSource, options?: ReadOptions): Promise<Uint8Array> {
  for (const length of [TELLING_BYTES, TELLING_BYTES / 4]) {
    const start = await source.read(0, length, options).catch(() => undefined)
    if (start !== undefined) return start
  }
  return new Uint8Array()
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
