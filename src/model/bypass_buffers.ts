/**
 * What a set of experts puts beside the weights of a graph: which variant of the graph has room for it, and the
 * buffers that the variant is fed with.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { tilingOf, weightsOf } from '../format/index.ts'
import type { ResidentExpert, UnpackedPart, UnpackRequest } from '../gpu/index.ts'
import { type BypassInput, type Site, type SiteBypass, sideBlockSize, sideBlocks } from '../onnx/index.ts'
import type { BypassUse, ExpertBinding, Factor } from './expert_bindings.ts'

/** An expert of a set. */
export interface BypassEntry {
  expert: ResidentExpert
  weight: number
  binding: ExpertBinding
}

/** Side slots that variants have at a site: experts beyond a step need the next one. */
const SLOT_STEPS = [1, 2, 4, 8] as const

type Use<K extends BypassUse['kind'] = BypassUse['kind']> = Extract<BypassUse, { kind: K }> &
  Pick<BypassEntry, 'expert' | 'weight'>

/** All that a set puts beside one site. */
interface SitePlan {
  site: Site
  /** Expert by expert: a fused site takes several of its tensors. */
  sides: Use<'side'>[][]
  lowRank: Use<'lowRank'>[]
  deltas: Use<'delta'>[]
  inputScales: Use<'inputScale'>[]
  outputScales: Use<'outputScale'>[]
  biases: Use<'bias'>[]
}

/** What a set puts beside the sites of one graph. */
export interface GraphPlan {
  /** Room that its variant needs, by site. */
  slots: ReadonlyMap<string, SiteBypass>
  sites: ReadonlyMap<string, SitePlan>
}

/**
 * @returns plans by graph; graphs beside which nothing is put are left out
 * @throws {TritswapError} `unsupported` for more experts at one site than a variant has slots
 */
export function planBypass(entries: readonly BypassEntry[]): Map<string, GraphPlan> {
  const graphs = new Map<string, Map<string, SitePlan>>()
  for (const { expert, weight, binding } of entries) {
    if (weight === 0) continue
    const sides = new Map<SitePlan, Use<'side'>[]>()
    for (const own of binding.beside) {
      const sites = graphs.get(own.graph) ?? new Map<string, SitePlan>()
      graphs.set(own.graph, sites)
      const plan = sites.get(own.site.key) ?? emptyPlan(own.site)
      sites.set(own.site.key, plan)
      const use = { ...own, expert, weight }
      if (use.kind === 'side') {
        const list = sides.get(plan)
        if (list) list.push(use)
        else sides.set(plan, plan.sides[plan.sides.push([use]) - 1])
      } else if (use.kind === 'lowRank') plan.lowRank.push(use)
      else if (use.kind === 'delta') plan.deltas.push(use)
      else if (use.kind === 'inputScale') plan.inputScales.push(use)
      else if (use.kind === 'outputScale') plan.outputScales.push(use)
      else plan.biases.push(use)
    }
  }
  return new Map(
    Array.from(graphs, ([graph, sites]) => {
      const slots = new Map(Array.from(sites, ([key, plan]) => [key, slotsOf(plan)]))
      return [graph, { slots, sites }]
    }),
  )
}

function emptyPlan(site: Site): SitePlan {
  return { site, sides: [], lowRank: [], deltas: [], inputScales: [], outputScales: [], biases: [] }
}

function slotsOf({ site, sides, lowRank, deltas, inputScales, outputScales, biases }: SitePlan): SiteBypass {
  const slots: SiteBypass = {}
  const side = SLOT_STEPS.find((count) => count >= sides.length)
  if (side === undefined) {
    throw new TritswapError(
      'unsupported',
      `Cannot put ${sides.length} experts beside ${site.parts[0].target}: the limit is ${SLOT_STEPS.at(-1)}`,
      { fields: { target: site.parts[0].target, experts: sides.length, limit: SLOT_STEPS.at(-1) } },
    )
  }
  if (sides.length > 0) slots.side = side
  if (lowRank.length > 0) slots.lowRank = true
  if (deltas.length > 0) slots.delta = true
  if (inputScales.length > 0) slots.inputScale = true
  if (outputScales.length > 0) slots.outputScale = true
  if (biases.length > 0) slots.bias = true
  return slots
}

/** What makes buffers: on the GPU, or elsewhere for reference. */
export interface Unpacks<B> {
  unpack(requests: readonly UnpackRequest[]): Promise<B[]>
}

interface Buffer {
  /** Bytes. */
  readonly size: number
  destroy(): void
}

/** What a graph input is fed with. */
export interface BypassFeed<B> {
  dtype: BypassInput['dtype']
  dims: readonly number[]
  buffer: B
}

/** Buffers of one set: feeds of its variants, by graph. */
export interface BypassFeeds<B> {
  feeds: ReadonlyMap<string, ReadonlyMap<string, BypassFeed<B>>>
  /** VRAM of what is its own; codes and ones are shared. */
  bytes: number
  destroy(): void
}

interface Codes<B> {
  buffer: B
  users: number
}

/**
 * Makes and keeps the buffers that variants are fed with. Codes stay as long as their expert is in VRAM and there is
 * room: to use them again takes nothing.
 */
export class BypassBuffers<B extends Buffer = GPUBuffer> {
  readonly #unpacker: Unpacks<B>
  readonly #budget: number
  /** Least recently used first. */
  readonly #codes = new Map<ResidentExpert, Map<string, Codes<B>>>()
  readonly #ones = new Map<string, { buffer: B; count: number }>()
  readonly #retired: B[] = []

  /** @param budgetBytes - for codes that no set uses any more */
  constructor(unpacker: Unpacks<B>, budgetBytes: number) {
    this.#unpacker = unpacker
    this.#budget = budgetBytes
  }

  /** VRAM of codes and ones. */
  get bytes(): number {
    let sum = 0
    for (const { buffer } of this.#ones.values()) sum += buffer.size
    for (const codes of this.#codes.values()) for (const { buffer } of codes.values()) sum += buffer.size
    return sum
  }

  /** VRAM of an expert's codes. */
  bytesOf(expert: ResidentExpert): number {
    return [...(this.#codes.get(expert)?.values() ?? [])].reduce((sum, { buffer }) => sum + buffer.size, 0)
  }

  /**
   * Buffers for a set.
   * @param plans - by graph, with the inputs of the variant that each needs
   * @throws {TritswapError} `memory`, `released`; nothing of it stays
   */
  async fill(
    plans: ReadonlyMap<string, { plan: GraphPlan; inputs: readonly BypassInput[] }>,
  ): Promise<BypassFeeds<B>> {
    const held: Codes<B>[] = []
    const own: { request: UnpackRequest; take: (buffer: B) => void }[] = []
    const feeds = new Map<string, Map<string, BypassFeed<B>>>()
    const release = () => {
      for (const codes of held.splice(0)) codes.users--
      this.#trim()
    }
    try {
      await this.#makeCodes(plans, held)
      for (const [graph, { plan, inputs }] of plans) {
        const tensors = new Map<string, BypassFeed<B>>()
        feeds.set(graph, tensors)
        for (const input of inputs) {
          const { name, kind, dims, dtype, site: key, slot } = input
          const feed = (buffer: B, sizes = dims) => tensors.set(name, { dtype, dims: sizes, buffer })
          if (kind === 'ones') {
            feed(await this.#onesOf(weightsOf(dims), dtype as 'float32' | 'float16'))
            continue
          }
          const site = plan.sites.get(key as string) as SitePlan
          if (kind === 'codes') {
            // A slot that is not needed has some codes, and a strength of nothing.
            const side = site.sides[slot as number] ?? site.sides[0]
            feed(this.#codes.get(side[0].expert)!.get(codesKey(site.site, side))!.buffer)
            continue
          }
          const rank = site.lowRank.reduce((sum, use) => sum + use.rank, 0)
          own.push({
            request: requestFor(input, site, rank),
            take: (buffer) =>
              feed(
                buffer,
                dims.map((size) => (size < 0 ? rank : size)),
              ),
          })
        }
      }
      const buffers = await this.#unpacker.unpack(own.map(({ request }) => request))
      for (const [i, { take }] of own.entries()) take(buffers[i])
      return {
        feeds,
        bytes: buffers.reduce((sum, { size }) => sum + size, 0),
        destroy: () => {
          for (const buffer of buffers) buffer.destroy()
          release()
        },
      }
    } catch (error) {
      release()
      throw error
    }
  }

  destroy(): void {
    for (const codes of this.#codes.values()) for (const { buffer } of codes.values()) buffer.destroy()
    for (const { buffer } of this.#ones.values()) buffer.destroy()
    for (const buffer of this.#retired) buffer.destroy()
    this.#codes.clear()
    this.#ones.clear()
  }

  /** Unpacks what is not there yet, and takes hold of all of it. */
  async #makeCodes(plans: ReadonlyMap<string, { plan: GraphPlan }>, held: Codes<B>[]): Promise<void> {
    const missing: { key: string; expert: ResidentExpert; request: UnpackRequest }[] = []
    const wanted: { key: string; expert: ResidentExpert }[] = []
    for (const { plan } of plans.values()) {
      for (const { site, sides } of plan.sites.values()) {
        for (const side of sides) {
          const [{ expert }] = side
          const key = codesKey(site, side)
          if (wanted.some((other) => other.expert === expert && other.key === key)) continue
          wanted.push({ key, expert })
          if (!this.#codes.get(expert)?.has(key))
            missing.push({ key, expert, request: codesRequest(site, side) })
        }
      }
    }
    const buffers = await this.#unpacker.unpack(missing.map(({ request }) => request))
    for (const [i, { key, expert }] of missing.entries()) {
      const codes = this.#codes.get(expert) ?? new Map<string, Codes<B>>()
      // Another set may have been faster.
      if (codes.has(key)) buffers[i].destroy()
      else codes.set(key, { buffer: buffers[i], users: 0 })
      this.#codes.set(expert, codes)
    }
    for (const { key, expert } of wanted) {
      const codes = this.#codes.get(expert)!
      this.#codes.delete(expert)
      this.#codes.set(expert, codes)
      const found = codes.get(key)!
      found.users++
      held.push(found)
    }
  }

  /** Ones for the scales of every site: the longest list that was asked for serves all. */
  async #onesOf(count: number, dtype: 'float32' | 'float16'): Promise<B> {
    const known = this.#ones.get(dtype)
    if (known !== undefined && known.count >= count) return known.buffer
    const [buffer] = await this.#unpacker.unpack([{ kind: 'floats', dtype, count, from: 1, parts: [] }])
    // Sets that have the shorter one go on with it.
    if (known !== undefined) this.#retired.push(known.buffer)
    this.#ones.set(dtype, { buffer, count })
    return buffer
  }

  /** Codes that nobody uses: gone with their expert, or for lack of room. */
  #trim(): void {
    let bytes = this.bytes
    for (const [expert, codes] of this.#codes) {
      for (const [key, { buffer, users }] of codes) {
        if (users > 0 || (!expert.evicted && bytes <= this.#budget)) continue
        bytes -= buffer.size
        buffer.destroy()
        codes.delete(key)
      }
      if (codes.size === 0) this.#codes.delete(expert)
    }
  }
}

/** Sites in which the same tensors lie in the same way share codes, whichever graph they are in. */
function codesKey({ inputs, outputs }: Site, side: readonly Use<'side'>[]): string {
  return [
    inputs,
    outputs,
    ...side.map(({ index, part }) => `${index}@${part.firstOutput}${part.transposed}`),
  ].join()
}

function codesRequest({ inputs, outputs }: Site, side: readonly Use<'side'>[]): UnpackRequest {
  const row = sideBlocks(inputs) * sideBlockSize(inputs)
  const parts = side.map(({ expert, index, part }) => placed(expert, index, part, row, 1))
  return { kind: 'codes', fields: outputs * row, parts }
}

/** A checkpoint matrix in a buffer with these steps from one output to the next, and from one input to the next. */
function placed(
  expert: ResidentExpert,
  index: number,
  { firstOutput, transposed }: Use['part'],
  down: number,
  right: number,
): UnpackedPart {
  const [rowStride, colStride] = transposed ? [right, down] : [down, right]
  return { expert, index, offset: firstOutput * down, rowStride, colStride }
}

/** A vector in a buffer. */
function vector(
  { expert, index, weight }: { expert: ResidentExpert; index: number; weight: number },
  offset: number,
) {
  const { cols } = tilingOf(expert.table.tensors[index].shape)
  return { expert, index, weight, offset, rowStride: cols, colStride: 1 }
}

/** What an input that belongs to the set alone is filled with. */
function requestFor(
  { kind, dims, dtype: type, slot }: BypassInput,
  plan: SitePlan,
  rank: number,
): UnpackRequest {
  const { site } = plan
  const { inputs, outputs } = site
  const dtype = type as 'float32' | 'float16'
  const count = dims.reduce((product, size) => product * (size < 0 ? rank : size), 1)
  const floats = (from: 0 | 1, parts: (UnpackedPart & { weight: number })[]): UnpackRequest => ({
    kind: 'floats',
    dtype,
    count,
    from,
    parts,
  })
  const isConv = site.kind === 'conv'
  if (kind === 'strength') return { kind: 'values', dtype, values: strengthsOf(plan, slot as number, count) }
  if (kind === 'strengths') {
    const values = plan.lowRank.flatMap(({ weight, scaling, rank }) =>
      new Array<number>(rank).fill(weight * scaling),
    )
    return { kind: 'values', dtype, values }
  }
  if (kind === 'delta') {
    const [down, right] = isConv ? [inputs, 1] : [1, outputs]
    return floats(
      0,
      plan.deltas.map(({ expert, index, part, weight }) => ({
        ...placed(expert, index, part, down, right),
        weight,
      })),
    )
  }
  if (kind === 'down' || kind === 'up') {
    let at = 0
    const parts = plan.lowRank.map((use) => {
      const factor = use[kind]
      // Steps along the rank and along the other side of the factor.
      const [along, across] =
        kind === 'down' ? (isConv ? [inputs, 1] : [1, rank]) : isConv ? [1, rank] : [outputs, 1]
      const first = kind === 'up' ? use.part.firstOutput : 0
      const part = factorPart(use, factor, at * along + first * across, along, across)
      at += use.rank
      return part
    })
    return floats(0, parts)
  }
  if (kind === 'inputScale')
    return floats(
      1,
      plan.inputScales.map((use) => vector(use, 0)),
    )
  if (kind === 'outputScale')
    return floats(
      1,
      plan.outputScales.map((use) => vector(use, use.part.firstOutput)),
    )
  return floats(
    0,
    plan.biases.map((use) => vector(use, use.part.firstOutput)),
  )
}

function factorPart(
  { expert }: { expert: ResidentExpert },
  { index, rankFirst }: Factor,
  offset: number,
  along: number,
  across: number,
) {
  const [rowStride, colStride] = rankFirst ? [along, across] : [across, along]
  return { expert, index, weight: 1, offset, rowStride, colStride }
}

/** What the codes of a slot are worth: one number, or one for each output of a fused site. */
function strengthsOf({ sides }: SitePlan, slot: number, count: number): number[] {
  const values = new Array<number>(count).fill(0)
  for (const { expert, index, weight, part } of sides[slot] ?? []) {
    const tensor = expert.table.tensors[index]
    const value = weight * (tensor.codec === 'ternary' ? tensor.scale : 1)
    if (count === 1) values[0] = value
    else values.fill(value, part.firstOutput, part.firstOutput + (part.transposed ? part.cols : part.rows))
  }
  return values
}
