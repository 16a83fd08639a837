import { abortable } from '../async/abortable.ts'
import { SerialQueue } from '../async/serial_queue.ts'
import type {
  AssetOptions,
  ExpertLoader,
  FetchProgress,
  LoaderOptions,
  ProgressCallback,
} from '../loader/index.ts'

/** The part of an {@link ExpertLoader} that the switcher drives. */
export type SwitcherLoader = Pick<
  ExpertLoader,
  | 'info'
  | 'load'
  | 'prefetch'
  | 'activate'
  | 'deactivate'
  | 'generate'
  | 'conversation'
  | 'stats'
  | 'tokenize'
  | 'score'
  | 'compare'
  | 'dispose'
>

export type CreateLoader = (options: LoaderOptions) => Promise<SwitcherLoader>

/** One engine, shared by all switchers of a page with the same model: the base is in VRAM once. */
interface Shared {
  users: Set<User>
  opening: AbortController
  loading: Promise<SwitcherLoader>
  /** The last progress of each file, for users that join during the download. */
  progress: Map<string, FetchProgress>
  /** Switches of different users run one after the other: none overtakes that of another user. */
  switches: SerialQueue
}

interface User {
  onProgress: ProgressCallback
  onShared: () => void
}

/** A switcher's share of a loader that others may use too. */
export interface Lease {
  loader: SwitcherLoader
  /** Others use the loader now, and may switch its experts. */
  readonly shared: boolean
  /** Runs a switch after those of the other users. */
  inTurn<T>(run: () => Promise<T>): Promise<T>
  /** Leaves the loader; the last user to leave disposes of it. */
  release(): Promise<void>
  /** Lets no more users join: the next one gets a new loader. */
  retire(): void
}

export interface LeaseOptions extends AssetOptions, Pick<LoaderOptions, 'signal'>, User {}

const loaders = new WeakMap<CreateLoader, Map<string, Shared>>()

/**
 * Joins the loader of a model on this page, or makes it.
 * @param options - `onShared` is called when another user joins
 * @throws as `ExpertLoader.create`
 */
export async function leaseLoader(
  create: CreateLoader,
  model: string,
  { signal, assets, blobWorkers, ...user }: LeaseOptions,
): Promise<Lease> {
  signal?.throwIfAborted()
  const key = new URL(model, document.baseURI).href
  const ofCreate = loaders.get(create) ?? new Map<string, Shared>()
  loaders.set(create, ofCreate)
  const shared = ofCreate.get(key) ?? start(create, { model, assets, blobWorkers })
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
  welcome(shared, user)
  for (const progress of shared.progress.values()) user.onProgress(progress)
  try {
    const loader = await abortable(shared.loading, signal)
    return {
      loader,
      get shared() {
        return shared.users.size > 1
      },
      inTurn(run) {
        // With one user, a later switch may overtake an earlier one.
        if (shared.users.size === 1) return run()
        return shared.switches.run(run)
      },
      release,
      retire,
    }
  } catch (error) {
    await release()
    // Nobody may join a failed attempt, even while other users have not heard of the failure yet.
    if (!signal?.aborted) retire()
    throw error
  }
}

/**
 * Apart from the async function above: a variable of one that waits holds on to its last value, here another user, even
 * after that one has left.
 */
function welcome({ users }: Shared, user: User): void {
  for (const other of users) other.onShared()
  users.add(user)
}

function start(create: CreateLoader, options: Pick<LoaderOptions, 'model' | keyof AssetOptions>): Shared {
  const opening = new AbortController()
  const users = new Set<User>()
  const progress = new Map<string, FetchProgress>()
  const onProgress: ProgressCallback = (event) => {
    progress.set(event.file, event)
    for (const user of users) user.onProgress(event)
  }
  const loading = create({ ...options, onProgress, signal: opening.signal })
  return { users, opening, loading, progress, switches: new SerialQueue() }
}
