import type { DownloadSize } from '../loader/download_size.ts'
import { formatBytes } from './units.ts'

/** The size in words: what of it is fetched, and what is here. */
export function downloadText({ base, kept, wasm, scripts }: DownloadSize): string {
  const parts = [
    base === undefined || base === kept ? '' : `${formatBytes(base - kept)} of the model`,
    wasm === undefined ? '' : `${formatBytes(wasm)} of WebAssembly`,
    scripts === undefined ? '' : `${formatBytes(scripts)} of scripts`,
  ].filter(Boolean)
  const here =
    kept === 0
      ? ''
      : kept === base
        ? 'The model is kept on this device. '
        : `${formatBytes(kept)} are kept on this device. `
  return parts.length === 0 ? here : `${here}To fetch: ${parts.join(', ')}.`
}
