/**
 * How the page opens a model in an engine worker: what `tritswap prepare` wrote comes from a fetch worker, any other
 * folder is fetched and rewritten by the engine itself.
 *
 * @module
 */
import type { Engine } from '../engine/engine.ts'
import type { OpenUnpreparedRequest } from '../engine/open_model.ts'
import type { ModelInfo } from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'
import { dtypeIn, type ReadManifest, readModelManifest, weightsRequest } from '../fetcher/manifest.ts'
import type { FetchPool } from '../fetcher/pool.ts'
import type { FetchSettings } from '../fetcher/protocol.ts'
import { checkAdapterFor } from '../gpu/f16.ts'
import { transfer, type WorkerLink } from '../rpc/index.ts'
import { checkSecureContext } from '../secure_context.ts'
import { folderName, folderUrl } from '../source/model_folder.ts'
import type { AssetOptions, Assets } from './assets.ts'
import type { LoadOptions, ProgressCallback } from './expert_library.ts'
import { pageUrl } from './page_url.ts'

export interface LoaderOptions extends AssetOptions {
  /**
   * Folder of the base: a URL, absolute or relative to the page, or `hf:owner/name@revision`. What `tritswap prepare`
   * wrote is loaded as it is; any other ONNX folder as transformers.js takes it is rewritten on the way.
   */
  model: string | URL
  /**
   * Which graphs, as transformers.js names them. Of a prepared folder: one of those that it was prepared as, by default
   * the first; of another: `fp32`, else `fp16`.
   */
  dtype?: string
  /** Of a folder that is not prepared: where its graphs are; `onnx` by default. */
  subfolder?: string
  /**
   * Of a folder that is not prepared: what becomes of weights that are quantized by blocks (q4, q4f16). `float`
   * dequantizes them in VRAM, so that experts can be merged into them (the default); `keep` leaves them as small as they
   * are, and experts go beside them.
   */
  quantized?: 'float' | 'keep'
  onProgress?: ProgressCallback
  signal?: AbortSignal
  /** VRAM for compressed experts, in bytes; the least recently used go first. */
  expertBudget?: number
  fetch?: FetchSettings
  /** Told once of each thing that makes loads slower but not wrong, and of every restart of the engine. */
  onWarning?: (message: string) => void
}

/** VRAM for compressed experts, in bytes, where the caller names no budget. */
export const DEFAULT_EXPERT_BUDGET = 256 << 20

/**
 * Loads the base into VRAM.
 * @throws {TritswapError} `webgpu`, `network`, `integrity`, `format`, `memory`; or the signal's `AbortError`
 */
export async function openModel(
  link: WorkerLink<Engine>,
  pool: FetchPool,
  { urls }: Assets,
  options: LoaderOptions,
  signal: AbortSignal,
): Promise<ModelInfo> {
  checkSecureContext('Cannot load a base')
  pool.warm()
  const { fetch: settings, onProgress } = options
  const modelUrl = folderUrl(options.model, pageUrl(), settings?.hub)
  const common: CommonRequest = {
    modelUrl,
    name: folderName(modelUrl),
    ort: { mjs: urls.glue, wasm: urls.wasm },
    grammar: urls.grammar,
    expertBudget: options.expertBudget ?? DEFAULT_EXPERT_BUDGET,
  }
  const lost = (message: string) =>
    link.terminate(
      new TritswapError(
        'device-lost',
        `Cannot go on: the GPU device was lost (${message}); the next call starts a new one`,
      ),
    )
  const usesCopies = settings?.cacheBudget !== 0
  const manifest = await readModelManifest(modelUrl, signal, usesCopies)
  if (manifest === undefined) {
    const { dtype, subfolder, quantized } = options
    const report = onProgress ?? (() => {})
    const request = { ...common, dtype, subfolder, quantized }
    const info = await link.api.openUnprepared(request, signal, lost, report)
    report({ status: 'ready', name: common.name, file: 'weights' })
    return info
  }
  if (manifest.isCopy)
    options.onWarning?.(
      `${modelUrl} cannot be reached: using the copies in the cache, which may be out of date`,
    )
  const dtype = dtypeIn(manifest, options.dtype)
  return openPrepared(link, pool, common, { ...manifest, dtype }, usesCopies, lost, { onProgress, signal })
}

type CommonRequest = Pick<OpenUnpreparedRequest, 'modelUrl' | 'name' | 'ort' | 'grammar' | 'expertBudget'>

async function openPrepared(
  link: WorkerLink<Engine>,
  pool: FetchPool,
  common: CommonRequest,
  manifest: ReadManifest,
  usesCopies: boolean,
  lost: (message: string) => void,
  options: LoadOptions,
): Promise<ModelInfo> {
  const { weights, dtype, graphs, fingerprint, isCopy } = manifest
  await checkAdapterFor(dtype)
  const { modelUrl, name } = common
  const file = pool.load({ ...weightsRequest(manifest, modelUrl), name }, options)
  // Files that belong together come from one place: all from the server, or all from the copies.
  const copies = usesCopies ? (isCopy ? 'first' : 'never') : undefined
  const request = { ...common, dtype, graphs, fingerprint, copies } as const
  const opened = link.api.open(request, transfer(file.port, [file.port]), file.signal, lost)
  // The one that fails first tells the reason; the other one fails because of it.
  const [info] = await Promise.all([opened, file.done])
  const { file: path, bytes } = weights
  options.onProgress?.({ status: 'ready', name, file: path, loaded: bytes, total: bytes, progress: 100 })
  return info
}
