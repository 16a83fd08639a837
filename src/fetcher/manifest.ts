import { TritswapError } from '../errors.ts'
import { fileWithCopy, isCopy } from '../source/offline_copy.ts'

/** `tritswap.json` of a prepared base: where its weights are and what authenticates them. */
export interface ModelManifest {
  version: 1
  weights: { file: string; bytes: number; rootHash: string }
  /** Graph files, e.g. `onnx/model.onnx`. */
  graphs: string[]
  /** Dtype of the graph, as transformers.js names it: `fp32`, `fp16`, … */
  dtype: string
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
    const get = () => fetch(url, { signal })
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
  if (response.status === 404 || response.headers.get('Content-Type')?.startsWith('text/html')) {
    await response.body?.cancel()
    return undefined
  }
  if (!response.ok) {
    throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
      fields: { url, status: response.status },
    })
  }
  let manifest: Partial<ModelManifest>
  try {
    manifest = (await response.json()) as Partial<ModelManifest>
  } catch (cause) {
    throw new TritswapError('format', `Cannot read ${url}: it is not JSON; prepare the model again`, {
      fields: { url },
      cause,
    })
  }
  const { weights } = manifest
  if (
    manifest.version !== 1 ||
    typeof weights?.file !== 'string' ||
    typeof weights.bytes !== 'number' ||
    !/^[0-9a-f]{64}$/.test(weights.rootHash ?? '') ||
    typeof manifest.dtype !== 'string'
  ) {
    throw new TritswapError(
      'format',
      `Cannot read ${url}: it does not name a weights file; prepare the model again`,
      {
        fields: { url },
      },
    )
  }
  return { ...(manifest as ModelManifest), isCopy: isCopy(response) }
}
