import { type BypassGraph, nameMatcher, type Site, type SitePart, sitesOf } from '../onnx/index.ts'

/** A site that holds a checkpoint tensor. */
export interface TargetSite {
  /** Name of the graph's session. */
  graph: string
  site: Site
  part: SitePart
}

/** A site that adds a checkpoint tensor to its outputs. */
export interface BiasSite {
  graph: string
  site: Site
  firstOutput: number
  outputs: number
}

/** The sites of all graphs of a model, by the checkpoint tensors in them. */
export class SiteIndex {
  readonly #byTarget = new Map<string, TargetSite[]>()
  readonly #promptTargets = new Set<string>()
  readonly #byBias = new Map<string, BiasSite[]>()
  /** Graph inputs that a graph also, or only, uses where no bypass can be. */
  readonly #usedElsewhere = new Set<string>()
  /** Weights of modules by the names that these would have alone. */
  #shared?: { names: ReadonlyMap<string, string>; match: (target: string) => string | undefined }

  /** @param graphs - by the names of their sessions */
  constructor(graphs: readonly (readonly [name: string, graph: BypassGraph])[]) {
    for (const [graph, source] of graphs) {
      const sites = sitesOf(source)
      for (const site of sites) {
        for (const part of site.parts) push(this.#byTarget, part.target, { graph, site, part })
        if (site.readsPrompt && site.parts.length === 1) this.#promptTargets.add(site.parts[0].target)
        for (const { target, ...outputs } of site.bias)
          push(this.#byBias, target, { graph, site, ...outputs })
      }
      const weights = new Set(sites.map(({ weight }) => weight))
      for (const { name } of source.inputs) if (!weights.has(name)) this.#usedElsewhere.add(name)
    }
  }

  /** Whether every use of a graph input is a site. */
  covers(input: string): boolean {
    return !this.#usedElsewhere.has(input)
  }

  /**
   * The weight that a module shares with another one and that goes by the other's name: `lm_head.weight` may be that of
   * an embedding.
   */
  sharedBy(target: string): string | undefined {
    this.#shared ??= this.#sharedWeights()
    const { names, match } = this.#shared
    const name = match(target)
    return name === undefined ? undefined : names.get(name)
  }

  #sharedWeights() {
    const names = new Map<string, string>()
    for (const { site, part } of [...this.#byTarget.values()].flat()) {
      if (site.parts.length > 1) continue
      for (const module of site.moduleNames) names.set(`${module}.weight`, part.target)
    }
    return { names, match: nameMatcher(names.keys()) }
  }

  /** Sites that hold a target. */
  of(target: string): readonly TargetSite[] {
    return this.#byTarget.get(target) ?? []
  }

  /** Embeddings that the ids of a prompt are looked up in. */
  get promptTargets(): readonly string[] {
    return [...this.#promptTargets]
  }

  /** Shapes of the keys and values that graphs take, [heads, 0, size of a head], by the names of their inputs. */
  get caches(): ReadonlyMap<string, readonly number[]> {
    const sites = [...this.#byTarget.values()].flat().filter(({ site }) => site.kind === 'cache')
    return new Map(sites.map(({ part, site }) => [part.target, [site.inputs, 0, site.outputs]]))
  }

  /** Sites that add a target to their outputs. */
  ofBias(target: string): readonly BiasSite[] {
    return this.#byBias.get(target) ?? []
  }
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}
