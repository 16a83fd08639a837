/**
 * What loading a base would take, told before anything of it is fetched: in the words of the browser's own Prompt API.
 *
 * @module
 */
import { isTritswapError, toError } from '../errors.ts'
import { dtypeIn, readModelManifest } from '../fetcher/manifest.ts'
import { requestAdapter } from '../gpu/adapter.ts'
import { checkDtype } from '../gpu/f16.ts'
import { folderUrl } from '../source/model_folder.ts'
import { baseSize, bytesToFetch, type DownloadOptions, engineSize } from './download_size.ts'
import { loadsOf } from './loads.ts'
import { checkBrowser } from './page_url.ts'

/** Whether a base can be loaded here, and what that fetches. */
export interface Availability {
  /**
   * `available`: the base is in VRAM or kept in this browser; `downloadable`: it has to be fetched, in part at least;
   * `downloading`: a loader of this page is fetching it; `unavailable`: it cannot be loaded here.
   */
  status: 'available' | 'downloadable' | 'downloading' | 'unavailable'
  /**
   * Bytes to fetch at most: the browser may have scripts and WebAssembly in its HTTP cache. Undefined where no server
   * tells, and of what is unavailable.
   */
  bytes?: number
  /** Why it is unavailable, for people, and what to do. */
  reason?: string
}

/** Asks browser, servers and cache. Rejects only with the signal's reason. @param options - as a loader takes them */
export async function availability(options: DownloadOptions): Promise<Availability> {
  try {
    const base = checkBrowser('Cannot load a base')
    const { features } = await requestAdapter()
    const modelUrl = folderUrl(options.model, base, options.fetch?.hub)
    const here = loadsOf(modelUrl)
    if (here.includes('loaded')) return { status: 'available', bytes: 0 }
    const manifest = await readModelManifest(modelUrl, options.signal)
    const dtype = manifest ? dtypeIn(manifest, options.dtype) : options.dtype
    if (dtype !== undefined) checkDtype({ f16: features.has('shader-f16') }, dtype)
    const [size, engine] = await Promise.all([baseSize(options), engineSize(options)])
    if (manifest === undefined && size.base === undefined) {
      const reason = `Cannot load ${modelUrl}: it has no tritswap.json and no graph; check the address`
      return { status: 'unavailable', reason }
    }
    const bytes = bytesToFetch({ ...size, ...engine })
    if (here.includes('loading')) return { status: 'downloading', bytes }
    const isKept = size.base !== undefined && size.kept >= size.base
    return { status: isKept ? 'available' : 'downloadable', bytes }
  } catch (error) {
    options.signal?.throwIfAborted()
    if (isTritswapError(error)) return { status: 'unavailable', reason: error.message }
    return { status: 'unavailable', reason: `Cannot load the base: ${toError(error).message}` }
  }
}
