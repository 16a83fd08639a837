import { hubUrl, isHubName } from './hf.ts'
import { type HttpOptions, httpSource } from './http.ts'
import { joinedSource } from './joined.ts'
import { blobSource, memorySource } from './memory.ts'
import type { ByteSource } from './source.ts'

/** A URL, `hf:owner/repo/path@revision`, a `Blob` or `File`, or bytes. */
export function openSource(from: string | URL | Blob | ArrayBuffer, options: HttpOptions = {}): ByteSource {
  if (from instanceof ArrayBuffer) return memorySource(from)
  if (from instanceof Blob) return blobSource(from)
  const name = String(from)
  return httpSource(isHubName(name) ? hubUrl(name, options.hub) : name, options)
}

/** The same, where the file may have been cut into parts. */
export function openWhole(
  from: Parameters<typeof openSource>[0],
  parts: readonly { url: string; bytes: number }[] | undefined,
  options: HttpOptions = {},
): ByteSource {
  if (parts === undefined) return openSource(from, options)
  return joinedSource(
    String(from),
    parts.map(({ url, bytes }) => ({ source: openSource(url, options), bytes })),
  )
}
