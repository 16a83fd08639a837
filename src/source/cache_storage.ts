/**
 * The Cache API of this page or worker. Undefined where there is none (no secure context), and where to ask for it
 * throws: in a sandboxed frame, or with site data blocked.
 */
export function cacheStorage(): CacheStorage | undefined {
  try {
    return globalThis.caches
  } catch {
    return undefined
  }
}
