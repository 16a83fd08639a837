/**
 * How each tensor of an expert meets the base: merged into float weights, beside them as ternary codes, or as inputs
 * of the graph.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { type TritTable, type TritTensor, tilingOf, weightsOf } from '../format/index.ts'
import { type BypassGraph, matchName, type Site, type SitePart, sitesOf } from '../onnx/index.ts'

/**
 * `merge`: added to weights in place. `side`: ternary, beside the weights. `input`: the adapter's own tensors, beside
 * the weights.
 */
export type Binding = 'merge' | 'side' | 'input'

/** `auto`: what costs least for the kind of expert and of base. */
export type BindingChoice = Binding | 'auto'

/** A factor of a low-rank pair. */
export interface Factor {
  /** In the expert's table. */
  index: number
  /** The rank runs along its rows, as in LoRA's A; along its columns in B. */
  rankFirst: boolean
}

/** A checkpoint tensor at a site of a graph. */
interface SiteUse {
  /** Name of the graph's session. */
  graph: string
  site: Site
  part: SitePart
}

type TensorUse = 'side' | 'delta' | 'inputScale' | 'outputScale' | 'bias'

/** What one tensor of an expert, or a pair of them, is beside a site. */
export type BypassUse =
  | { [K in TensorUse]: SiteUse & { kind: K; index: number } }[TensorUse]
  | (SiteUse & { kind: 'lowRank'; down: Factor; up: Factor; rank: number; scaling: number })

/** How an expert meets a base. */
export interface ExpertBinding {
  /** Tensors of its table that are merged. */
  merged: ReadonlySet<number>
  beside: readonly BypassUse[]
}

/** What of the weights in VRAM decides. */
export interface BoundWeights {
  /** Places of a target that hold floats. */
  floatPlacementsOf(target: string): readonly { input: string; dtype: 'float32' | 'float16' }[]
  /** Whether a target is quantized in one of its places. */
  isQuantized(target: string): boolean
}

/** Tokens that a switch has to pay for itself in. */
const TOKENS_PER_SWITCH = 32
/** What a GPU could have moved in the time that one more dispatch takes, in bytes. */
const BYTES_PER_DISPATCH = 1 << 20
/** Dispatches that one site with a low-rank pair, or with a scale, takes more for a token. */
const LOW_RANK_DISPATCHES = 4
const SCALE_DISPATCHES = 1
/** A merge that saves a tensor reads and writes it twice. */
const PASSES_OF_MERGE = 4

/** The sites of all graphs of a model, by what they hold. */
export class SiteIndex {
  readonly #byTarget = new Map<string, SiteUse[]>()
  readonly #byBias = new Map<string, { graph: string; site: Site; firstOutput: number; outputs: number }[]>()

  /** Weights that some graph uses in a way that nothing can be put beside. */
  readonly #uncovered = new Set<string>()

  /** @param graphs - by the names of their sessions */
  constructor(graphs: readonly (readonly [name: string, graph: BypassGraph])[]) {
    for (const [graph, source] of graphs) {
      const sites = sitesOf(source)
      for (const site of sites) {
        for (const part of site.parts) push(this.#byTarget, part.target, { graph, site, part })
        for (const { target, ...place } of site.bias) push(this.#byBias, target, { graph, site, ...place })
      }
      const covered = new Set(sites.map(({ weight }) => weight))
      for (const { name } of source.inputs) if (!covered.has(name)) this.#uncovered.add(name)
    }
  }

  /** Whether all uses of a weight are sites. */
  covers(weight: string): boolean {
    return !this.#uncovered.has(weight)
  }

  /** The weight that a module shares with another, whose name it goes by: `lm_head.weight` is that of an embedding. */
  sharedBy(target: string): string | undefined {
    const names = new Map<string, string>()
    for (const uses of this.#byTarget.values()) {
      for (const { site, part } of uses)
        if (site.parts.length === 1)
          for (const module of site.modules) names.set(`${module}.weight`, part.target)
    }
    const name = matchName(target, names.keys())
    return name === undefined ? undefined : names.get(name)
  }

  of(target: string): readonly SiteUse[] {
    return this.#byTarget.get(target) ?? []
  }

  ofBias(target: string) {
    return this.#byBias.get(target) ?? []
  }
}

function push<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}

/**
 * Decides how an expert meets the base.
 *
 * @param table - of the expert, with targets as the base calls them
 * @param unused - targets that no graph has a use for: nothing becomes of their tensors
 * @throws {TritswapError} `unsupported` where the binding asked for cannot be had, or a tensor has no place that can
 * be changed; `format` for half a LoRA pair
 */
export function bindExpert(
  table: TritTable,
  choice: BindingChoice,
  weights: BoundWeights,
  sites: SiteIndex,
  unused: ReadonlySet<string> = new Set(),
): ExpertBinding {
  const merged = new Set<number>()
  const beside: BypassUse[] = []
  const rest = choice === 'auto' && prefersInput(table, weights, sites) ? 'input' : choice
  for (const { target, tensors, uses, isPartial } of contributions(table, sites, weights, rest)) {
    if (unused.has(target)) continue
    const floats = weights.floatPlacementsOf(target)
    const kept = weights.isQuantized(target)
    // A bias is in floats, whatever the weight beside it is in.
    const quantized = uses.filter(({ site, kind }) => site.quantized && kind !== 'bias')
    const first = table.tensors[tensors[0]]
    const isQuantized = isPartial ? quantized.length > 0 : kept || floats.length === 0
    if (isQuantized && rest === 'merge') {
      throw unsupported(first, 'its weights stay quantized: use another binding, or a base of floats')
    }
    if (isQuantized && quantized.length === 0) {
      throw unsupported(first, `nothing can be put beside the quantized weights of ${target}`)
    }
    if (isPartial) {
      // A merge would change what is tied to it as well.
      beside.push(...uses)
      continue
    }
    // All places of a tensor change together, or none.
    const besideFloats = uses.filter(
      (use) => !quantized.includes(use) && (rest === 'input' || use.kind === 'side'),
    )
    const reached = new Set(besideFloats.map(({ site }) => site.weight))
    const covered =
      floats.length > 0 &&
      besideFloats.length === uses.length - quantized.length &&
      (besideFloats.some(({ kind }) => kind === 'bias') ||
        floats.every(({ input }) => reached.has(input) && sites.covers(input)))
    if ((rest === 'input' || rest === 'side') && covered) beside.push(...quantized, ...besideFloats)
    else {
      beside.push(...quantized)
      if (floats.length > 0) for (const index of tensors) merged.add(index)
    }
  }
  if (choice === 'side' && !beside.some(({ kind }) => kind === 'side')) {
    throw new TritswapError(
      'unsupported',
      'Cannot use this expert by side: none of its tensors is a ternary change of a linear weight; use merge or input',
      { fields: { binding: choice } },
    )
  }
  return { merged, beside }
}

interface Contribution {
  target: string
  tensors: number[]
  uses: BypassUse[]
  /** It changes one of two modules that share a weight: the embedding, or the output layer that is tied to it. */
  isPartial?: boolean
}

/** The tensors of a table that belong together, with what they would be beside each site. */
function* contributions(
  table: TritTable,
  sites: SiteIndex,
  weights: BoundWeights,
  choice: BindingChoice,
): Generator<Contribution, void, void> {
  const pairs = new Map<string, { a?: number; b?: number }>()
  for (const [index, tensor] of table.tensors.entries()) {
    const { target, role, layout } = tensor
    const places = sites.of(target)
    // Two modules that share a weight may have a pair each.
    const key = `${target} ${layout === 'embedding'}`
    if (role === 'delta') {
      const uses = places.map((place): BypassUse => {
        const isSide = place.site.kind === 'linear' && tensor.codec === 'ternary' && choice !== 'input'
        return { ...place, kind: isSide ? 'side' : 'delta', index }
      })
      yield { target, tensors: [index], uses: uses.length > 0 ? uses : biasUses(index, target, sites) }
    } else if (role === 'ia3') {
      const uses = places.flatMap((place) => scaleUse(place, tensor, index, weights))
      yield { target, tensors: [index], uses }
    } else {
      const pair = pairs.get(key) ?? {}
      pair[role === 'loraA' ? 'a' : 'b'] = index
      pairs.set(key, pair)
      if (pair.a === undefined || pair.b === undefined) continue
      pairs.delete(key)
      const uses = lowRankUses(table, pair.a, pair.b, sites)
      const isPartial = uses.length > 0 && uses.length < places.length
      yield { target, tensors: [pair.a, pair.b], uses, isPartial }
    }
  }
  for (const { a, b } of pairs.values()) {
    const half = table.tensors[(a ?? b) as number]
    throw new TritswapError(
      'format',
      `Cannot use ${half.name}: the other factor for ${half.target} is missing`,
      { fields: { tensor: half.name, target: half.target } },
    )
  }
}

function biasUses(index: number, target: string, sites: SiteIndex): BypassUse[] {
  const places = sites.ofBias(target)
  if (places.length !== 1) return []
  return places.map(({ graph, site, firstOutput, outputs }) => {
    const part = { target, rows: 1, cols: outputs, firstOutput, transposed: false }
    return { graph, site, part, kind: 'bias', index }
  })
}

/** (IA)³ scales what goes into a module or what comes out of it, its bias included. */
function scaleUse(place: SiteUse, tensor: TritTensor, index: number, weights: BoundWeights): BypassUse[] {
  const { site, part } = place
  const length = weightsOf(tensor.shape)
  if (site.kind === 'embedding') return []
  if (tensor.feedforward === true) {
    const inputs = site.kind === 'conv' ? site.kernel?.[0] : site.inputs
    return site.parts.length === 1 && inputs === length ? [{ ...place, kind: 'inputScale', index }] : []
  }
  const bias = part.target.replace(/\.weight$/, '.bias')
  const isBiasApart =
    weights.floatPlacementsOf(bias).length > 0 && !site.bias.some(({ target }) => target === bias)
  return outputsOf(part) === length && !isBiasApart ? [{ ...place, kind: 'outputScale', index }] : []
}

function outputsOf({ rows, cols, transposed }: SitePart): number {
  return transposed ? cols : rows
}

function lowRankUses(table: TritTable, a: number, b: number, sites: SiteIndex): BypassUse[] {
  const { layout, scaling = 1, target } = table.tensors[b]
  const { rows: rank } = tilingOf(table.tensors[a].shape)
  // The matrix is left · right: B · A, or its transpose for modules that keep [in, out].
  const isTransposed = layout === 'conv1d' || layout === 'embedding'
  const [left, right] = isTransposed
    ? [
        { index: a, rankFirst: true },
        { index: b, rankFirst: false },
      ]
    : [
        { index: b, rankFirst: false },
        { index: a, rankFirst: true },
      ]
  // A LoRA is of a module, and not of what that shares its weight with.
  const places = sites
    .of(target)
    .filter(({ site }) => (site.kind === 'embedding') === (layout === 'embedding'))
  return places.map((place) => {
    const [down, up] = place.part.transposed ? [left, right] : [right, left]
    return { ...place, kind: 'lowRank', down, up, rank, scaling }
  })
}

/**
 * Whether an adapter costs less as inputs than merged: a merge rewrites whole weights at every switch and keeps a copy
 * of them, inputs cost a few dispatches for every token.
 */
function prefersInput(table: TritTable, weights: BoundWeights, sites: SiteIndex): boolean {
  if (table.method === 'full') return false
  let merge = 0
  let input = 0
  for (const { target, role, shape } of table.tensors) {
    if (role === 'loraA' || role === 'delta') continue
    for (const { dtype } of weights.floatPlacementsOf(target)) {
      const places = sites.of(target)
      const weightsOfTarget = places.length > 0 ? places[0].part.rows * places[0].part.cols : weightsOf(shape)
      merge += PASSES_OF_MERGE * weightsOfTarget * (dtype === 'float16' ? 2 : 4)
      input += (role === 'ia3' ? SCALE_DISPATCHES : LOW_RANK_DISPATCHES) * BYTES_PER_DISPATCH
    }
  }
  return merge > TOKENS_PER_SWITCH * input
}

function unsupported({ name, target }: TritTensor, why: string): TritswapError {
  return new TritswapError('unsupported', `Cannot use ${name}: ${why}`, { fields: { tensor: name, target } })
}
