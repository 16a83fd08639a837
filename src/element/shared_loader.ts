import { abortable } from '../async/abortable.ts'
import type { ExpertLoader, FetchProgress, LoaderOptions, ProgressCallback } from '../loader/index.ts'

/** The part of an {@link ExpertLoader} that the switcher drives. */
export type SwitcherLoader = Pick<
  ExpertLoader,
  | 'info'
  | 'load'
  | 'activate'
  | 'deactivate'
  | 'generate'
  | 'stats'
  | 'tokenize'
  | 'score'
  | 'compare'
  | 'dispose'
>

export type CreateLoader = (options: LoaderOptions) => Promise<SwitcherLoader>

/** Several switchers with the same model on a page share one engine: the base is in VRAM once. */
interface Shared {
  users: Set<User>
  opening: AbortController
  loading: Promise<SwitcherLoader>
  /** The last that was heard of each file, for those who join in the middle of the download. */
  progress: Map<string, FetchProgress>
  /** Switches of different users go one after the other: none overtakes that of somebody else. */
  turn: Promise<unknown>
}

interface User {
  onProgress: ProgressCallback
  onShared: () => void
}

/** What a switcher has of a loader that others may use too. */
export interface Lease {
  loader: SwitcherLoader
  /** Others use it now: what is active in it is not only this user's doing. */
  readonly shared: boolean
  /** Runs a switch when those of the other users are done. */
  inTurn<T>(run: () => Promise<T>): Promise<T>
  /** The last one to leave disposes of the loader. */
  release(): Promise<void>
  /** Nobody joins any more: the next one gets a new loader. */
  retire(): void
}

export interface LeaseOptions extends Pick<LoaderOptions, 'ort' | 'signal'>, User {}

const loaders = new WeakMap<CreateLoader, Map<string, Shared>>()

/**
 * Joins the loader of a model on this page, or makes it.
 * @param options - `onShared` is called when somebody else joins
 * @throws as `ExpertLoader.create`
 */
export async function leaseLoader(
  create: CreateLoader,
  model: string,
  { signal, ort, ...user }: LeaseOptions,
): Promise<Lease> {
  signal?.throwIfAborted()
  const key = new URL(model, document.baseURI).href
  const ofCreate = loaders.get(create) ?? new Map<string, Shared>()
  loaders.set(create, ofCreate)
  const shared = ofCreate.get(key) ?? start(create, { model, ort })
  ofCreate.set(key, shared)
  const retire = () => {
    if (ofCreate.get(key) === shared) ofCreate.delete(key)
  }
  const release = async () => {
    if (!shared.users.delete(user) || shared.users.size > 0) return
    retire()
    shared.opening.abort()
    const loader = await shared.loading.catch(() => undefined)
    await loader?.dispose()
  }
  for (const other of shared.users) other.onShared()
  shared.users.add(user)
  for (const progress of shared.progress.values()) user.onProgress(progress)
  try {
    const loader = await abortable(shared.loading, signal)
    return {
      loader,
      get shared() {
        return shared.users.size > 1
      },
      inTurn(run) {
        if (shared.users.size === 1) return run()
        const done = shared.turn.then(run)
        shared.turn = done.catch(() => {})
        return done
      },
      release,
      retire,
    }
  } catch (error) {
    await release()
    // A failed attempt is nothing to join, even while others have not heard of it yet.
    if (!signal?.aborted) retire()
    throw error
  }
}

function start(create: CreateLoader, options: Pick<LoaderOptions, 'model' | 'ort'>): Shared {
  const opening = new AbortController()
  const users = new Set<User>()
  const progress = new Map<string, FetchProgress>()
  const onProgress: ProgressCallback = (event) => {
    progress.set(event.file, event)
    for (const user of users) user.onProgress(event)
  }
  const loading = create({ ...options, onProgress, signal: opening.signal })
  return { users, opening, loading, progress, turn: Promise.resolve() }
}
