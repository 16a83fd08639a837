/** How far loaders of this page are with each base, by its address. */
const loads = new Map<string, Set<Load>>()

interface Load {
  state: 'loading' | 'loaded'
}

/** A base that a loader loads or holds. */
export class NotedLoad {
  readonly #load: Load = { state: 'loading' }
  readonly #ofModel: Set<Load>

  /** @param modelUrl - of its folder, absolute */
  constructor(modelUrl: string) {
    this.#ofModel = loads.get(modelUrl) ?? new Set()
    loads.set(modelUrl, this.#ofModel.add(this.#load))
  }

  /** It is in VRAM. */
  loaded(): void {
    this.#load.state = 'loaded'
  }

  /** It failed, or its loader was disposed of. */
  gone(): void {
    this.#ofModel.delete(this.#load)
  }
}

/** The states of the loaders of a base. */
export function loadsOf(modelUrl: string): Load['state'][] {
  return [...(loads.get(modelUrl) ?? [])].map(({ state }) => state)
}
