import { readModelManifest } from '../fetcher/manifest.ts'
import { ortFolder } from '../loader/ort_folder.ts'
import { openChunkCache } from '../source/cache.ts'
import { folderUrl } from '../source/model_folder.ts'
import { formatBytes } from './units.ts'

/** What loading a base fetches, in bytes; undefined where no manifest and no server says it. */
export interface DownloadSize {
  base?: number
  /** Bytes of the base that this browser has from an earlier visit. */
  kept: number
  /** onnxruntime-web's WebAssembly. */
  wasm?: number
  /** Scripts of the workers. */
  scripts?: number
}

/**
 * Asks manifest, servers and cache how much loading a base fetches. Never rejects: it is only for showing.
 * @param model - as the element takes it
 * @param ort - as the element takes it
 */
export async function downloadSize(model: string, ort?: string): Promise<DownloadSize> {
  const [base, engine] = await Promise.all([
    baseSize(folderUrl(model, document.baseURI)).catch(() => undefined),
    engineSize(ortFolder(ort, document.baseURI)).catch(() => undefined),
  ])
  return { kept: 0, ...base, ...engine }
}

/** Bytes that are still to come, of all whose size is known. */
export function bytesToFetch({ base = 0, kept, wasm = 0, scripts = 0 }: DownloadSize): number {
  return base - kept + wasm + scripts
}

/** The size in words: what of it is fetched, and what is here. */
export function downloadText(size: DownloadSize): string {
  const { base, kept } = size
  const model = base === undefined || base === kept ? '' : `${formatBytes(base - kept)} of the model`
  const parts = [model, ...engineParts(size)].filter(Boolean)
  const here =
    kept === 0
      ? ''
      : kept === base
        ? 'The model is kept on this device. '
        : `${formatBytes(kept)} are kept on this device. `
  const all = parts.length > 1 ? `; ${formatBytes(bytesToFetch(size))} in all` : ''
  return parts.length === 0 ? here : `${here}To fetch: ${parts.join(', ')}${all}.`
}

/** What comes with any base, in words; empty if that is not known. */
export function engineText(size: DownloadSize): string {
  return engineParts(size).join(' and ')
}

function engineParts({ wasm, scripts }: DownloadSize): string[] {
  return [
    wasm === undefined ? '' : `${formatBytes(wasm)} of WebAssembly`,
    scripts === undefined ? '' : `${formatBytes(scripts)} of scripts`,
  ].filter(Boolean)
}

async function baseSize(folder: string): Promise<Pick<DownloadSize, 'base' | 'kept'> | undefined> {
  const manifest = await readModelManifest(folder)
  if (manifest === undefined) return undefined
  const { weights, graphs } = manifest
  const small = await Promise.all(
    [...graphs, 'tokenizer.json'].map((path) => contentLength(new URL(path, folder)).catch(() => 0)),
  )
  const base = weights.bytes + small.reduce((sum, bytes) => sum + bytes, 0)
  const stored = (await openChunkCache().list()).find(({ rootHash }) => rootHash === weights.rootHash)
  return { base, kept: stored?.complete ? base : (stored?.cachedBytes ?? 0) }
}

async function contentLength(url: URL): Promise<number> {
  const response = await fetch(url, { method: 'HEAD' })
  return response.ok ? Number(response.headers.get('Content-Length') ?? 0) : 0
}

/** What the build wrote beside onnxruntime-web's files. */
async function engineSize(folder: string): Promise<Pick<DownloadSize, 'wasm' | 'scripts'>> {
  const { wasm, scripts } = await (await fetch(new URL('sizes.json', folder))).json()
  return { wasm, scripts }
}
