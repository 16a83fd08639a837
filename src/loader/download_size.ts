import { readModelManifest } from '../fetcher/manifest.ts'
import { graphPath } from '../model/graph_path.ts'
import { openChunkCache } from '../source/cache.ts'
import { folderUrl } from '../source/model_folder.ts'
import { Assets } from './assets.ts'
import type { LoaderOptions } from './open_model.ts'
import { pageUrl } from './page_url.ts'

/** What loading a base fetches, in bytes; undefined where no manifest and no server says it. */
export interface DownloadSize {
  base?: number
  /** Bytes of the base that this browser has from an earlier visit. */
  kept: number
  /** onnxruntime-web's WebAssembly, with its glue code. */
  wasm?: number
  /** Scripts of the workers. */
  scripts?: number
}

/** The options of a loader that say what it fetches. */
export type DownloadOptions = Pick<
  LoaderOptions,
  'model' | 'dtype' | 'subfolder' | 'assets' | 'fetch' | 'signal'
>

/**
 * Asks manifest, servers and cache how much loading a base fetches. Never rejects: it is only for showing.
 * @param options - as a loader takes them
 */
export async function downloadSize(options: DownloadOptions): Promise<DownloadSize> {
  const [base, engine] = await Promise.all([
    baseSize(options).catch(() => undefined),
    engineSize(options).catch(() => undefined),
  ])
  return { kept: 0, ...base, ...engine }
}

/** Bytes that are still to come, of all whose size is known. */
export function bytesToFetch({ base = 0, kept, wasm = 0, scripts = 0 }: DownloadSize): number {
  return base - kept + wasm + scripts
}

/** @throws {TritswapError} `input`, `network`, `format` for a base that cannot be loaded */
export async function baseSize(options: DownloadOptions): Promise<Pick<DownloadSize, 'base' | 'kept'>> {
  const folder = folderUrl(options.model, pageUrl(), options.fetch?.hub)
  const manifest = await readModelManifest(folder, options.signal)
  if (manifest === undefined) return { base: await unpreparedSize(folder, options), kept: 0 }
  const { weights, graphs = [] } = manifest
  const small = await Promise.all([...graphs, 'tokenizer.json'].map((path) => sizeOf(path, folder)))
  const base = small.reduce<number>((sum, bytes = 0) => sum + bytes, weights.bytes)
  const stored = (await openChunkCache().list()).find(({ rootHash }) => rootHash === weights.rootHash)
  return { base, kept: stored?.complete ? base : (stored?.cachedBytes ?? 0) }
}

/** Of a folder as the hub has it: the first graph that is there, its data, and the tokenizer. */
async function unpreparedSize(
  folder: string,
  { dtype, subfolder }: DownloadOptions,
): Promise<number | undefined> {
  for (const candidate of dtype === undefined ? ['fp32', 'fp16'] : [dtype]) {
    const graph = graphPath('model', candidate, subfolder)
    const bytes = await sizeOf(graph, folder)
    if (bytes === undefined) continue
    const [data = 0, tokenizer = 0] = await Promise.all(
      [`${graph}_data`, 'tokenizer.json'].map((path) => sizeOf(path, folder)),
    )
    return bytes + data + tokenizer
  }
  return undefined
}

/** @throws {TritswapError} `network` for a file that is missing */
export async function engineSize(options: DownloadOptions): Promise<Pick<DownloadSize, 'wasm' | 'scripts'>> {
  const { engine, fetcher, glue, wasm } = await new Assets(options, pageUrl() ?? '').check()
  const sum = (a?: number, b?: number) => (a === undefined || b === undefined ? undefined : a + b)
  return { wasm: sum(wasm, glue), scripts: sum(engine, fetcher) }
}

/** Size of a file; undefined where it is not there, or the server does not tell. */
async function sizeOf(path: string, folder: string): Promise<number | undefined> {
  const response = await fetch(new URL(path, folder).href, { method: 'HEAD' }).catch(() => undefined)
  const isPage = response?.headers.get('Content-Type')?.startsWith('text/html')
  if (!response?.ok || isPage) return undefined
  return Number(response.headers.get('Content-Length') ?? 0)
}
