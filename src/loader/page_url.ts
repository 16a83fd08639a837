import { TritswapError } from '../errors.ts'

/** What relative addresses are relative to: the page's base URL; in a worker, its script. Undefined in Node. */
export function pageUrl(): string | undefined {
  return globalThis.document?.baseURI ?? globalThis.location?.href
}

/**
 * @param cannot - what is asked for: `Cannot load a base`
 * @returns what relative addresses are relative to
 * @throws {TritswapError} `unsupported` in Node and other runtimes of servers
 */
export function checkBrowser(cannot: string): string {
  const url = pageUrl()
  if (url !== undefined && globalThis.Worker !== undefined) return url
  throw new TritswapError(
    'unsupported',
    `${cannot} here: it takes web workers and WebGPU, which browsers have and this runtime of a server has not; call it in the browser only (useEffect, onMount, onMounted, or behind typeof window !== 'undefined')`,
    { fields: { missing: 'browser' } },
  )
}
