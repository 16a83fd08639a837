import { TritswapError } from '../errors.ts'
import { fetchPastErrors, isAbsence } from '../source/http_request.ts'
import { parseJsonObject } from '../source/json.ts'
import { MANIFEST_JSON } from '../source/limits.ts'
import { fileWithCopy, isCopy } from '../source/offline_copy.ts'
import type { FetchRequest } from './protocol.ts'

/** `tritswap.json` of a prepared base: where its weights are and what authenticates them. */
export interface ModelManifest {
  version: 1
  weights: {
    file: string
    bytes: number
    rootHash: string
    /** The files that it was cut into, for hosts that take no large ones; `file` itself is not there then. */
    parts?: readonly { file: string; bytes: number }[]
  }
  /** Graph files, e.g. `onnx/model.onnx`. */
  graphs: string[]
  /** Dtype of the graph, as transformers.js names it: `fp32`, `fp16`, … */
  dtype: string
  /** Of graphs of several dtypes over the same weights: `dtype` is the default. */
  dtypes?: readonly string[]
  /** Fingerprint of the checkpoint that the base was prepared from. */
  fingerprint?: string
}

/** A manifest and where it came from. */
export interface ReadManifest extends ModelManifest {
  /** The server is out of reach: this is a copy of the manifest that it sent last. */
  isCopy: boolean
}

/**
 * Reads the manifest of a model folder; undefined if there is none, because the model is not prepared.
 * @param modelUrl - absolute, with a slash at its end
 * @param useCopies - whether to store a copy, and to use it when the server is out of reach
 * @throws {TritswapError} `network` if it cannot be fetched, `format` if it is not a manifest
 */
export async function readModelManifest(
  modelUrl: string,
  signal?: AbortSignal,
  useCopies = false,
): Promise<ReadManifest | undefined> {
  const url = new URL('tritswap.json', modelUrl).href
  let response: Response
  try {
    const get = () => fetchPastErrors(url, { signal })
    response = await (useCopies ? fileWithCopy(url, 'unreachable', get) : get())
  } catch (cause) {
    signal?.throwIfAborted()
    throw new TritswapError(
      'network',
      `Cannot fetch ${url}: ${(cause as Error).message}; check the address and the connection`,
      {
        fields: { url },
        cause,
      },
    )
  }
  // Servers of single-page apps answer with their page instead of 404.
  if (isAbsence(response.status) || response.headers.get('Content-Type')?.startsWith('text/html')) {
    await response.body?.cancel()
    return undefined
  }
  if (!response.ok) {
    throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
      fields: { url, status: response.status },
    })
  }
  return { ...parseManifest(new Uint8Array(await response.arrayBuffer()), url), isCopy: isCopy(response) }
}

/**
 * Checks a manifest.
 * @param name - of the file, for messages
 * @throws {TritswapError} `format`, `limit`
 */
export function parseManifest(bytes: Uint8Array, name: string): ModelManifest {
  const manifest = parseJsonObject(bytes, name, MANIFEST_JSON)
  const wrong = faultOf(manifest)
  if (wrong !== undefined) {
    throw new TritswapError('format', `Cannot read ${name}: ${wrong}; prepare the model again`, {
      fields: { url: name },
    })
  }
  return manifest as unknown as ModelManifest
}

/** What keeps an object from being a manifest. */
function faultOf(manifest: Record<string, unknown>): string | undefined {
  const { version, weights, graphs = [], dtype, dtypes = [] } = manifest as Partial<ModelManifest>
  if (version !== 1) return `expected version 1, found ${JSON.stringify(version)}`
  if (typeof weights?.file !== 'string' || !isAddress(weights.file)) return 'it does not name a weights file'
  if (!Number.isSafeInteger(weights.bytes) || weights.bytes < 0)
    return 'it does not tell the size of its weights'
  if (typeof weights.rootHash !== 'string' || !/^[0-9a-f]{64}$/.test(weights.rootHash))
    return 'it does not tell the SHA-256 of its weights'
  const wrongParts = weights.parts !== undefined && faultOfParts(weights.parts, weights.bytes)
  if (wrongParts) return wrongParts
  if (!Array.isArray(dtypes) || !dtypes.every((one) => typeof one === 'string'))
    return 'its dtypes are not a list of names'
  if (typeof dtype !== 'string') return 'it does not tell the dtype of its graphs'
  if (!Array.isArray(graphs) || !graphs.every((graph) => typeof graph === 'string' && isAddress(graph)))
    return 'its graphs are not a list of files'
  return undefined
}

/** Whether a text is a path, or an address of its own, as seen from any folder on the web. */
function isAddress(text: string): boolean {
  return URL.canParse(text, 'https://tritswap.invalid/')
}

function faultOfParts(parts: unknown, whole: number): string | undefined {
  const isPart = (part: unknown) => {
    const { file, bytes } = (part ?? {}) as { file?: unknown; bytes?: unknown }
    return typeof file === 'string' && isAddress(file) && Number.isSafeInteger(bytes) && (bytes as number) > 0
  }
  if (!Array.isArray(parts) || !parts.every(isPart))
    return 'the parts of its weights are not files with sizes'
  const sum = parts.reduce((bytes: number, part: { bytes: number }) => bytes + part.bytes, 0)
  return sum === whole ? undefined : `the parts of its weights have ${sum} bytes of ${whole}`
}

/** What a fetch worker is asked for to get the weights. */
export function weightsRequest(
  { weights: { file, rootHash, parts } }: ModelManifest,
  modelUrl: string,
): Pick<FetchRequest, 'source' | 'parts' | 'rootHash' | 'kind'> & { source: string } {
  return {
    source: new URL(file, modelUrl).href,
    parts: parts?.map((part) => ({ url: new URL(part.file, modelUrl).href, bytes: part.bytes })),
    rootHash,
    kind: 'base',
  }
}

/**
 * The dtype of the graphs to take: the only one, or of several the one that is wanted.
 * @param wanted - the default one if undefined
 * @throws {TritswapError} `input` for another one than those that there are several of
 */
export function dtypeIn({ dtype, dtypes }: ModelManifest, wanted: string | undefined): string {
  if (wanted === undefined || dtypes === undefined) return dtype
  if (dtypes.includes(wanted)) return wanted
  throw new TritswapError(
    'input',
    `Cannot open this base as ${wanted}: it was prepared as ${dtypes.join(' and ')}; leave out dtype, or prepare it again`,
    { fields: { wanted, found: dtypes } },
  )
}

/** Graphs of a prepared folder: first those that have the file name of one of `paths`, in their order. */
export function preparedPaths({ graphs = [] }: ModelManifest, paths: readonly string[]): string[] {
  const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1)
  const wanted = paths.flatMap((path) => graphs.filter((graph) => nameOf(graph) === nameOf(path)))
  return graphs.length === 0 ? [...paths] : [...new Set([...wanted, ...graphs])]
}
