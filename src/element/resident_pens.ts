import type { Expert, ExpertRequest, FetchProgress, GeneratedToken } from '../loader/index.ts'
import { heaviestFirst, type Pen, type WeightedPen } from './pens.ts'
import type { SwitcherLoader } from './shared_loader.ts'

/** The experts of pens in VRAM. Each is fetched once, however often its pen is chosen in between. */
export class ResidentPens {
  readonly #onProgress: (progress: FetchProgress) => void
  readonly #onLoaded: () => void
  readonly #experts = new Map<Pen, Promise<Expert>>()
  readonly #fetching = new Map<Pen, AbortController>()
  readonly #pensOfExperts = new Map<string, Pen>()

  constructor(onProgress: (progress: FetchProgress) => void, onLoaded: () => void) {
    this.#onProgress = onProgress
    this.#onLoaded = onLoaded
  }

  /** The experts of pens as the loader takes them, fetched where they are not in VRAM. */
  experts(
    loader: SwitcherLoader,
    pens: readonly WeightedPen[],
  ): Promise<{ expert: Expert; weight: number }[]> {
    return Promise.all(
      pens.map(async ({ pen, weight }) => ({ expert: await this.#expert(loader, pen), weight })),
    )
  }

  #expert(loader: SwitcherLoader, pen: Pen): Promise<Expert> {
    const known = this.#experts.get(pen)
    if (known !== undefined) return known
    const controller = new AbortController()
    this.#fetching.set(pen, controller)
    pen.place = 'fetching'
    pen.loaded = 0
    const onProgress = (progress: FetchProgress) => {
      pen.loaded = progress.loaded ?? pen.loaded
      this.#onProgress(progress)
    }
    const loading = loader.load(requestOf(pen), { onProgress, signal: controller.signal }).then(
      (expert) => {
        pen.place = 'vram'
        this.#pensOfExperts.set(expert.id, pen)
        this.#onLoaded()
        return expert
      },
      (error: unknown) => {
        pen.place = 'network'
        this.#experts.delete(pen)
        throw error
      },
    )
    this.#experts.set(pen, loading)
    return loading.finally(() => this.#fetching.delete(pen))
  }

  stopFetching(pen: Pen): void {
    this.#fetching.get(pen)?.abort()
  }

  /** The pens that wrote a token, the heaviest first; `base` if it was written without experts. */
  pensOf({ experts }: GeneratedToken, base: Pen): readonly WeightedPen[] {
    if (experts.length === 0) return [{ pen: base, weight: 1 }]
    return experts
      .map(({ expert, weight }) => ({ pen: this.#pensOfExperts.get(expert) ?? base, weight }))
      .sort(heaviestFirst)
  }

  /** Notes that a new device has only the experts of these pens. */
  onlyThese(pens: ReadonlySet<Pen>): void {
    for (const pen of this.#experts.keys()) if (!pens.has(pen)) pen.place = 'network'
  }

  /** Gives back the VRAM of a pen that is no longer shown. */
  release(pen: Pen): void {
    const loading = this.#experts.get(pen)
    this.#experts.delete(pen)
    void loading?.then((expert) => expert.release()).catch(() => {})
  }

  /** Gives back the VRAM of all pens. */
  releaseAll(): void {
    for (const pen of [...this.#experts.keys()]) this.release(pen)
  }

  /** Forgets all experts, without giving anything back: their engine is gone. */
  clear(): void {
    this.#experts.clear()
    this.#pensOfExperts.clear()
  }
}

/** A pen as a loader takes it. */
export function requestOf(pen: Pen): ExpertRequest {
  const { id, label, rootHash, base, system, generation, withdrawn } = pen
  return { source: pen.file ?? pen.url ?? '', id, label, rootHash, base, system, generation, withdrawn }
}
