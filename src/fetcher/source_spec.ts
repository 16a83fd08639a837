import { TritswapError } from '../errors.ts'
import { isHubName } from '../source/hf.ts'
import type { SourceSpec } from './protocol.ts'

/**
 * A source as a worker can open it, whose own base URL is that of its script.
 * @param baseUrl - what relative addresses are relative to
 * @throws {TritswapError} `input` for an address that is no URL
 */
export function absoluteSource(source: SourceSpec, baseUrl: string | undefined): SourceSpec {
  if (source instanceof URL) return source.href
  if (typeof source !== 'string' || isHubName(source)) return source
  try {
    return new URL(source, baseUrl).href
  } catch (cause) {
    throw new TritswapError(
      'input',
      `Cannot load ${source}: it is not a URL; write ./file.trit, https://… or hf:owner/repo/file`,
      { fields: { source }, cause },
    )
  }
}

/** The name of a source in progress events. */
export function nameOfSource(source: SourceSpec): string {
  if (typeof source === 'string') return source
  return source instanceof Blob && 'name' in source ? String(source.name) : 'memory'
}
