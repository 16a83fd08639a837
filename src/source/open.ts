import { hubUrl, isHubName } from './hf.ts'
import { type HttpOptions, httpSource } from './http.ts'
import { blobSource, memorySource } from './memory.ts'
import type { ByteSource } from './source.ts'

/** A URL, `hf:owner/repo/path@revision`, a `Blob` or `File`, or bytes. */
export function openSource(from: string | URL | Blob | ArrayBuffer, options: HttpOptions = {}): ByteSource {
  if (from instanceof ArrayBuffer) return memorySource(from)
  if (from instanceof Blob) return blobSource(from)
  const name = String(from)
  return httpSource(isHubName(name) ? hubUrl(name, options.hub) : name, options)
}
