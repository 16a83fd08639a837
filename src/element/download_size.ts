import { bytesToFetch, type DownloadSize } from '../loader/download_size.ts'
import { formatBytes } from './units.ts'

/** The size in words: what of it is fetched, and what is here. */
export function downloadText(size: DownloadSize): string {
  const { base, kept } = size
  const model = base === undefined || base === kept ? '' : `${formatBytes(base - kept)} of the model`
  const parts = [model, ...engineParts(size)].filter(Boolean)
  const here =
    kept === 0
      ? ''
      : kept === base
        ? 'The model is already on this device. '
        : `${formatBytes(kept)} of it is already on this device. `
  const all = parts.length > 1 ? `; ${formatBytes(bytesToFetch(size))} in all` : ''
  return parts.length === 0 ? here : `${here}To download: ${parts.join(', ')}${all}.`
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
