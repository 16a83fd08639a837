/**
 * The files that the library fetches besides its own scripts: two workers, onnxruntime-web's WebAssembly with its
 * glue code, and the library of grammars, where a call asks for JSON. `lib/assets` of the package holds them; bundlers find each by the literal address of its file.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { startWorker } from '../rpc/index.ts'
import { isAbsence } from '../source/http_request.ts'

/** Addresses of the engine's files as seen from this script; the build puts them in. */
declare const __TRITSWAP_ORT_GLUE__: string
declare const __TRITSWAP_ORT_WASM__: string
declare const __TRITSWAP_GRAMMAR__: string

export interface AssetOptions {
  /**
   * Folder of the workers and of onnxruntime-web's wasm and glue, absolute or relative to the page: what
   * `tritswap assets <folder>` copied. By default they are where the library's bundle, or yours, put them.
   */
  assets?: string | URL
  /**
   * Starts workers from `blob:` addresses that import the scripts: for pages whose content security policy allows no
   * others (`worker-src blob:`). Scripts on other origins are started so anyway.
   */
  blobWorkers?: boolean
}

/** What starts a worker, in the form that bundlers look for. */
type Start = (Constructor: typeof Worker) => Worker

const WORKERS = {
  engine: (Worker) => new Worker(new URL('../engine/worker.ts', import.meta.url), { type: 'module' }),
  fetcher: (Worker) => new Worker(new URL('../fetcher/worker.ts', import.meta.url), { type: 'module' }),
} satisfies Record<string, Start>

/** Names of the files in the folder that {@link AssetOptions.assets} names. */
const NAMES = {
  engine: 'engine.js',
  fetcher: 'fetcher.js',
  glue: 'ort-wasm-simd-threaded.asyncify.mjs',
  wasm: 'ort-wasm-simd-threaded.asyncify.wasm',
  grammar: 'grammar.mjs',
}

type AssetName = keyof typeof NAMES

/** Without these no base is loaded. */
const NEEDED = ['engine', 'fetcher', 'glue', 'wasm'] as const

export class Assets {
  /** Absolute addresses. */
  readonly urls: Readonly<Record<AssetName, string>>
  readonly #options: AssetOptions

  /**
   * @param base - what a relative folder is relative to
   * @throws {TritswapError} `input` where a bundler took `import.meta.url` away and no folder is given
   */
  constructor(options: AssetOptions, base: string) {
    this.#options = options
    const { assets } = options
    this.urls = assets === undefined ? besideScript(base) : inFolder(assets, base)
  }

  start(worker: keyof typeof WORKERS): Worker {
    const { assets, blobWorkers } = this.#options
    return startWorker(WORKERS[worker], {
      script: assets === undefined ? undefined : this.urls[worker],
      fromBlob: blobWorkers,
    })
  }

  /** Waits for work that needs the files, but no longer than until one of them is known to be missing. */
  guard<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      work.then(resolve, reject)
      this.check().catch(reject)
    })
  }

  /**
   * Looks whether the files are there that every base needs. What only fails to answer passes: the one who needs the file says more.
   * @returns their sizes in bytes, of those that a server tells
   * @throws {TritswapError} `network` for a file that is not there
   */
  async check(): Promise<Partial<Record<AssetName, number>>> {
    const sizes = await Promise.all(NEEDED.map((name) => look(this.urls[name])))
    return Object.fromEntries(NEEDED.map((name, i) => [name, sizes[i]]))
  }
}

function inFolder(folder: string | URL, base: string): Record<AssetName, string> {
  const url = new URL(`${String(folder).replace(/\/+$/, '')}/`, base)
  const entries = Object.entries(NAMES).map(([name, file]) => [name, new URL(file, url).href])
  return Object.fromEntries(entries)
}

function besideScript(base: string): Record<AssetName, string> {
  try {
    return {
      engine: new URL(addressOf(WORKERS.engine), base).href,
      fetcher: new URL(addressOf(WORKERS.fetcher), base).href,
      glue: new URL(__TRITSWAP_ORT_GLUE__, import.meta.url).href,
      wasm: new URL(__TRITSWAP_ORT_WASM__, import.meta.url).href,
      grammar: new URL(__TRITSWAP_GRAMMAR__, import.meta.url).href,
    }
  } catch (cause) {
    throw new TritswapError(
      'input',
      `Cannot tell where the workers lie: the script does not know its own address, as in bundles that are no modules; ${REMEDY}`,
      { cause },
    )
  }
}

/** The address that a worker would be started from. */
function addressOf(start: Start): string {
  let address = ''
  start(
    class {
      constructor(script: string | URL) {
        address = String(script)
      }
    } as unknown as typeof Worker,
  )
  return address
}

const REMEDY =
  'put the files where the page can fetch them with "npx tritswap assets <folder>", and give the address of that folder: ExpertLoader.create({ assets }), or the attribute assets of the element'

/** Files that were looked for, with their sizes. */
const found = new Map<string, Promise<number | undefined>>()

function look(url: string): Promise<number | undefined> {
  const known = found.get(url)
  if (known !== undefined) return known
  const looking = head(url)
  found.set(url, looking)
  const forget = () => found.delete(url)
  // What is not there, or did not answer, may be there the next time.
  looking.then((size) => size === undefined && forget(), forget)
  return looking
}

/** Statuses with which servers refuse to be asked for the head alone. */
const NO_HEAD = [405, 501]

async function head(url: string): Promise<number | undefined> {
  const response = await fetch(url, { method: 'HEAD' }).catch(() => undefined)
  if (response === undefined || NO_HEAD.includes(response.status)) return undefined
  const { ok, status, headers } = response
  // Servers of single-page apps send their page for what is not there.
  const isPage = headers.get('Content-Type')?.startsWith('text/html') ?? false
  if (isAbsence(status) || (ok && isPage)) {
    const answer = isPage && ok ? 'the server sent a page in its place' : `the server answered ${status}`
    throw new TritswapError('network', `Cannot load ${url}, which tritswap needs: ${answer}; ${REMEDY}`, {
      fields: { url, status, asset: true },
    })
  }
  const size = headers.get('Content-Length')
  return ok && size !== null ? Number(size) : undefined
}
