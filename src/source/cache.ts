/**
 * Verified chunks in the Cache API, by content: each file has a cache of its own, named by its root hash, which fixes
 * every byte of the file. So a renamed URL or a second page finds the same chunks, two tabs that write at once write the
 * same bytes, deleting a file is one call, and no index can get out of step. Readers verify every chunk again.
 *
 * @module
 */
import { cacheStorage } from './cache_storage.ts'
import { COPIES_CACHE } from './offline_copy.ts'

/** What `list` tells of a file. */
export interface CachedFileInfo {
  rootHash: string
  name: string
  /** Size of the whole file, head and payload. */
  fileBytes: number
  cachedBytes: number
  /** Every chunk is cached. */
  complete: boolean
  /** ms since the epoch. */
  lastUsed: number
}

export interface CacheUsage {
  bytes: number
  files: number
  /** Bytes that the cache may take; the least recently used file is deleted first. */
  budget: number
}

/** Name and sizes of a file, in bytes: what the cache needs to account for its chunks. */
export interface CachedLayout {
  name: string
  headBytes: number
  payloadBytes: number
  chunkBytes: number
}

/** The chunks of one file. */
export interface CachedFile {
  /** The head as it was stored, or undefined. */
  head(): Promise<Uint8Array<ArrayBuffer> | undefined>
  /** Indexes of the cached chunks. */
  chunks(): Promise<Set<number>>
  read(index: number): Promise<Uint8Array<ArrayBuffer> | undefined>
  /**
   * Makes room within the budget, deleting the least recently used files if need be, and stores the head.
   * @returns false if the file alone is over the budget
   * @throws what the browser throws, e.g. `QuotaExceededError`
   */
  begin(layout: CachedLayout, head: Uint8Array<ArrayBuffer>): Promise<boolean>
  /** Stores a copy of a verified chunk: `bytes` may be transferred as soon as this returns its promise. */
  write(index: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

export interface ChunkCache {
  /** False where there is no storage (no secure context, sandboxed frame, private mode). */
  available(): Promise<boolean>
  open(rootHash: string): CachedFile
  /** Root hash of the file that a URL had when it was last loaded: a hint, to be compared with the head at that URL. */
  rootHashAt(url: string): Promise<string | undefined>
  rememberRootHash(url: string, rootHash: string): Promise<void>
  list(): Promise<CachedFileInfo[]>
  /** @returns whether there was such a file */
  delete(rootHash: string): Promise<boolean>
  /** Deletes everything, including the offline copies of the small files of bases. */
  clear(): Promise<void>
  usage(): Promise<CacheUsage>
}

const PREFIX = 'tritswap/1/'
const URLS = 'tritswap/urls'
/** The Cache API takes only http(s) URLs as keys; no host can exist under `.invalid` (RFC 2606). */
const KEY = 'https://tritswap.invalid/'
const CHUNK_KEY = `${KEY}chunk/`
/** For browsers that do not tell their quota. */
const DEFAULT_BUDGET = 2 ** 30

type StoredInfo = CachedLayout & { lastUsed: number }

export interface ChunkCacheOptions {
  /** Bytes at most; half of the browser's quota by default. `0` turns the cache off. */
  budget?: number
  storage?: CacheStorage
  now?: () => number
}

export function openChunkCache({
  budget,
  storage = cacheStorage(),
  now = Date.now,
}: ChunkCacheOptions = {}): ChunkCache {
  let usable: Promise<boolean> | undefined

  function available(): Promise<boolean> {
    usable ??= (async () => {
      if (storage === undefined || budget === 0) return false
      // In private modes the object exists but every call rejects.
      return storage.has(URLS).then(
        () => true,
        () => false,
      )
    })()
    return usable
  }

  /** The browser's figures for this origin. `usage` includes what other code of the origin stores. */
  async function estimate(): Promise<StorageEstimate> {
    try {
      return (await globalThis.navigator?.storage?.estimate?.()) ?? {}
    } catch {
      return {}
    }
  }

  async function limit(): Promise<number> {
    if (budget !== undefined) return budget
    const { quota } = await estimate()
    return quota === undefined ? DEFAULT_BUDGET : Math.floor(quota / 2)
  }

  async function hashes(): Promise<string[]> {
    if (!(await available())) return []
    return (await storage!.keys())
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => name.slice(PREFIX.length))
  }

  async function existing(rootHash: string): Promise<Cache | undefined> {
    // `open` would create an empty one.
    if (!(await available()) || !(await storage!.has(PREFIX + rootHash))) return undefined
    return storage!.open(PREFIX + rootHash)
  }

  async function infoOf(cache: Cache): Promise<StoredInfo | undefined> {
    const stored = await cache.match(`${KEY}info`)
    const info: unknown = await stored?.json().catch(() => undefined)
    return isInfo(info) ? info : undefined
  }

  async function describe(rootHash: string): Promise<CachedFileInfo | undefined> {
    const cache = await existing(rootHash)
    if (!cache) return undefined
    const info = await infoOf(cache)
    if (!info) return { rootHash, name: rootHash, fileBytes: 0, cachedBytes: 0, complete: false, lastUsed: 0 }
    const total = Math.ceil(info.payloadBytes / info.chunkBytes)
    const cached = await chunksOf(cache)
    let cachedBytes = info.headBytes
    for (const index of cached) {
      cachedBytes += Math.max(0, Math.min(info.chunkBytes, info.payloadBytes - index * info.chunkBytes))
    }
    return {
      rootHash,
      name: info.name,
      fileBytes: info.headBytes + info.payloadBytes,
      cachedBytes,
      complete: cached.size === total,
      lastUsed: info.lastUsed,
    }
  }

  async function list(): Promise<CachedFileInfo[]> {
    const files = await Promise.all((await hashes()).map(describe))
    return files.filter((file) => file !== undefined).sort((a, b) => b.lastUsed - a.lastUsed)
  }

  const remove = async (rootHash: string) => (await available()) && storage!.delete(PREFIX + rootHash)

  /** All other files, the least recently used first, with their whole sizes. */
  async function others(
    rootHash: string,
  ): Promise<{ rootHash: string; fileBytes: number; lastUsed: number }[]> {
    const files = (await hashes()).map(async (hash) => {
      const cache = await existing(hash)
      const info = cache && (await infoOf(cache))
      return {
        rootHash: hash,
        fileBytes: info ? info.headBytes + info.payloadBytes : 0,
        lastUsed: info?.lastUsed ?? 0,
      }
    })
    return (await Promise.all(files))
      .filter((file) => file.rootHash !== rootHash)
      .sort((a, b) => a.lastUsed - b.lastUsed)
  }

  /** Deletes other files, least recently used first, until `needed` more bytes fit. */
  async function makeRoom(rootHash: string, needed: number): Promise<boolean> {
    const most = await limit()
    if (needed > most) return false
    const { usage } = await estimate()
    // Far from the budget there is no need to look at every file.
    if (usage !== undefined && usage + needed <= most / 2) return true
    const files = await others(rootHash)
    // Whole sizes, not the bytes so far: other tabs may still be loading those files.
    let total = files.reduce((sum, file) => sum + file.fileBytes, needed)
    for (const oldest of files) {
      if (total <= most) break
      await remove(oldest.rootHash)
      total -= oldest.fileBytes
    }
    return true
  }

  /** `put`; if disk or quota is full, deletes the least recently used other file and tries once more. */
  async function put(cache: Cache, rootHash: string, key: string, response: () => Response): Promise<void> {
    try {
      await cache.put(key, response())
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'QuotaExceededError') throw error
      const [oldest] = await others(rootHash)
      if (!oldest) throw error
      await remove(oldest.rootHash)
      await cache.put(key, response())
    }
  }

  function open(rootHash: string): CachedFile {
    let writable: Cache | undefined
    let readable: Cache | undefined
    // An open cache stays readable even if another tab deletes it.
    const found = async () => {
      readable ??= await existing(rootHash)
      return readable
    }
    return {
      async head() {
        const cache = await found()
        return cache && bytesOf(await cache.match(`${KEY}head`))
      },
      async chunks() {
        const cache = await found()
        return cache ? chunksOf(cache) : new Set()
      },
      async read(index) {
        const cache = await found()
        return cache && bytesOf(await cache.match(CHUNK_KEY + index))
      },
      async begin(layout, head) {
        if (!(await available())) return false
        const { name, headBytes, payloadBytes, chunkBytes } = layout
        if (!(await makeRoom(rootHash, headBytes + payloadBytes))) return false
        const cache = await storage!.open(PREFIX + rootHash)
        const info: StoredInfo = { name, headBytes, payloadBytes, chunkBytes, lastUsed: now() }
        await put(cache, rootHash, `${KEY}info`, () => Response.json(info))
        await put(cache, rootHash, `${KEY}head`, () => new Response(head))
        writable = cache
        return true
      },
      write(index, bytes) {
        // A Blob copies the bytes out of the heap, and a second `put` can read it again.
        const copy = new Blob([bytes])
        return put(writable!, rootHash, CHUNK_KEY + index, () => new Response(copy))
      },
    }
  }

  return {
    available,
    open,
    async rootHashAt(url) {
      if (!(await available()) || !(await storage!.has(URLS))) return undefined
      const stored = await (await storage!.open(URLS)).match(KEY + encodeURIComponent(url))
      return stored?.text()
    },
    async rememberRootHash(url, rootHash) {
      if (!(await available())) return
      const cache = await storage!.open(URLS)
      await cache.put(KEY + encodeURIComponent(url), new Response(rootHash))
    },
    list,
    delete: remove,
    async clear() {
      for (const rootHash of await hashes()) await remove(rootHash)
      if (await available()) await Promise.all([URLS, COPIES_CACHE].map((name) => storage!.delete(name)))
    },
    async usage() {
      const files = await list()
      const bytes = files.reduce((sum, file) => sum + file.cachedBytes, 0)
      return { bytes, files: files.length, budget: (await available()) ? await limit() : 0 }
    },
  }
}

async function chunksOf(cache: Cache): Promise<Set<number>> {
  const keys = await cache.keys()
  const chunks = keys
    .filter(({ url }) => url.startsWith(CHUNK_KEY))
    .map(({ url }) => Number(url.slice(CHUNK_KEY.length)))
  return new Set(chunks.filter(isSize))
}

/** Other code of the origin can write to the same storage. */
function isInfo(value: unknown): value is StoredInfo {
  if (typeof value !== 'object' || value === null) return false
  const { name, headBytes, payloadBytes, chunkBytes, lastUsed } = value as Partial<StoredInfo>
  const sizes = [headBytes, payloadBytes, chunkBytes].every(isSize)
  return typeof name === 'string' && sizes && chunkBytes !== 0 && Number.isFinite(lastUsed)
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

async function bytesOf(response: Response | undefined): Promise<Uint8Array<ArrayBuffer> | undefined> {
  return response && new Uint8Array(await response.arrayBuffer())
}
