/** The Cache API in memory, as far as the chunk cache uses it, with faults on demand. */
export interface MemoryCacheStorage {
  storage: CacheStorage
  /** Bodies by `<cache>|<key>`, to look at and to garble. */
  entries(): Map<string, Uint8Array<ArrayBuffer>>
  faults: {
    /** Rejects every put while the sum of all bodies would be over it. */
    quota?: number
    /** Rejects everything, as private modes do. */
    closed?: boolean
  }
}

export function memoryCacheStorage(): MemoryCacheStorage {
  const caches = new Map<string, Map<string, Uint8Array<ArrayBuffer>>>()
  const faults: MemoryCacheStorage['faults'] = {}
  const check = () => {
    if (faults.closed) throw new DOMException('The operation is insecure', 'SecurityError')
  }
  const total = () =>
    [...caches.values()].flatMap((cache) => [...cache.values()]).reduce((sum, { length }) => sum + length, 0)

  const cacheOf = (entries: Map<string, Uint8Array<ArrayBuffer>>) => ({
    async match(key: string) {
      check()
      const body = entries.get(key)
      return body && new Response(body)
    },
    async put(key: string, response: Response) {
      check()
      const body = new Uint8Array(await response.arrayBuffer())
      if (total() - (entries.get(key)?.length ?? 0) + body.length > (faults.quota ?? Infinity)) {
        throw new DOMException('Quota exceeded', 'QuotaExceededError')
      }
      entries.set(key, body)
    },
    async keys() {
      check()
      return [...entries.keys()].map((url) => ({ url }))
    },
  })

  const storage = {
    async has(name: string) {
      check()
      return caches.has(name)
    },
    async open(name: string) {
      check()
      const entries = caches.get(name) ?? new Map()
      caches.set(name, entries)
      return cacheOf(entries)
    },
    async keys() {
      check()
      return [...caches.keys()]
    },
    async delete(name: string) {
      check()
      return caches.delete(name)
    },
  }
  return {
    storage: storage as unknown as CacheStorage,
    entries: () =>
      new Map(
        [...caches].flatMap(([cache, all]) =>
          [...all].map(([key, body]) => [`${cache}|${key}`, body] as const),
        ),
      ),
    faults,
  }
}
