/**
 * A page that loads files by the pool of fetch workers and does nothing else. The spec drives it through
 * `window.network`.
 *
 * @module
 */
import { FetchPool } from '../../src/fetcher/pool.ts'
import { receiveFile } from '../../src/fetcher/receive.ts'
import { isAbortError } from '../../src/loader/index.ts'

export interface WantedFile {
  source: string
  rootHash: string
  /** SHA-256 of the payload, hex. */
  sha256: string
}

const warnings: string[] = []

const pool = new FetchPool({
  createWorker: () => new Worker(new URL('../../src/fetcher/worker.ts', import.meta.url), { type: 'module' }),
  size: 4,
  onWarning: (message) => warnings.push(message),
})
const aborts = new Map<string, AbortController>()
const outcomes = new Map<string, string>()

async function load({ source, rootHash, sha256 }: WantedFile): Promise<string> {
  const { signal } = aborts.get(source)!
  const handle = pool.load({ source, rootHash }, { signal })
  handle.done.catch(() => {})
  try {
    const { head, chunks } = await receiveFile(handle.port, handle.signal)
    const payload = new Uint8Array(head.payloadBytes)
    for await (const { offset, bytes } of chunks) payload.set(bytes, offset)
    await handle.done
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', payload))
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
    return found === sha256 ? 'right' : 'wrong'
  } catch (error) {
    return isAbortError(error) ? 'aborted' : String(error)
  }
}

const network = {
  start(files: WantedFile[]): void {
    for (const file of files) {
      aborts.set(file.source, new AbortController())
      outcomes.set(file.source, 'pending')
      void load(file).then((outcome) => outcomes.set(file.source, outcome))
    }
  },
  abort: (source: string) => aborts.get(source)?.abort(),
  outcomes: () => Object.fromEntries(outcomes),
  async cached() {
    return (await pool.cache.list()).filter(({ complete }) => complete).map(({ rootHash }) => rootHash)
  },
  warnings: () => warnings,
  clear: () => pool.cache.clear(),
}

declare global {
  interface Window {
    network: typeof network
  }
}

window.network = network
