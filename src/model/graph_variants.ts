/**
 * The variants of a hoisted graph that take inputs beside its weights. Sessions are made ahead where it is known which sets may
 * come; else a session is created when a forward pass first needs it.
 *
 * @module
 */
import { addBypass, type BypassGraph, type BypassInput, type SiteBypass } from '../onnx/index.ts'
import type { OrtSession } from './hoisted_session.ts'

/** A hoisted graph, and how sessions of its variants are made. */
export interface VariantSource {
  graph: BypassGraph
  /** A session like `base`, of another graph. */
  create(base: OrtSession, bytes: Uint8Array<ArrayBuffer>): Promise<OrtSession>
}

/** What a variant has, by site. */
export type Slots = ReadonlyMap<string, SiteBypass>

/** Sessions of one graph that are kept open; beyond it the least recently used is released. */
const MAX_SESSIONS = 16

export interface GraphVariant {
  key: string
  slots: Slots
  inputs: readonly BypassInput[]
  /** Until its session is made. */
  bytes?: Uint8Array<ArrayBuffer>
}

export class GraphVariants {
  readonly #source: VariantSource
  readonly #variants = new Map<string, GraphVariant>()
  /** By base session, and by the key of the variant: least recently used first. */
  readonly #sessions = new Map<OrtSession, Map<string, OrtSession>>()
  /** Has room for any set of the experts that sessions were made ahead for. */
  #common: GraphVariant | undefined
  /** Keys of the variants of one expert each. */
  readonly #single = new Set<string>()
  #made = 0

  constructor(source: VariantSource) {
    this.#source = source
  }

  /** Sessions that were created since the start. */
  get made(): number {
    return this.#made
  }

  /** The variant for a set: the one with the least room of those with sessions that it fits into, else one of its own. */
  variantFor(slots: Slots): GraphVariant {
    const fitting = [...this.#variants.values()].filter(
      (variant) => this.#isOpen(variant) && hasRoomFor(variant.slots, slots),
    )
    const [found] = fitting.sort((a, b) => a.slots.size - b.slots.size)
    return found ?? this.#variantOf(slots)
  }

  /**
   * Makes the session for an expert, and the one in which it runs together with those that came before. Only to be called while
   * nothing runs.
   * @param isUsed - whether a set runs in a variant
   */
  async prepare(base: OrtSession, slots: Slots, isUsed: (variant: GraphVariant) => boolean): Promise<void> {
    const before = this.#common
    const common = this.#variantOf(before === undefined ? slots : joined(before.slots, slots))
    const own = this.#variantOf(slots)
    const open = this.#sessions.get(base)?.size ?? 0
    if (open + 2 <= MAX_SESSIONS || !hasRoomFor(common.slots, slots)) {
      this.#single.add(own.key)
      await this.session(base, own)
    }
    await this.session(base, common)
    this.#common = common
    if (before === undefined || before === common || this.#single.has(before.key) || isUsed(before)) return
    this.#variants.delete(before.key)
    for (const sessions of this.#sessions.values()) {
      const session = sessions.get(before.key)
      sessions.delete(before.key)
      await session?.release?.()
    }
  }

  /** The session of a variant. Only to be called while nothing runs: onnxruntime-web does one thing at a time. */
  async session(base: OrtSession, variant: GraphVariant): Promise<OrtSession> {
    const { key, slots } = variant
    const sessions = this.#sessions.get(base) ?? new Map<string, OrtSession>()
    this.#sessions.set(base, sessions)
    let session = sessions.get(key)
    if (session === undefined) {
      const bytes = variant.bytes ?? addBypass(this.#source.graph, slots).bytes
      session = await this.#source.create(base, bytes)
      this.#made++
      variant.bytes = undefined
      const [oldest] = sessions
      if (oldest !== undefined && sessions.size >= MAX_SESSIONS) {
        sessions.delete(oldest[0])
        await oldest[1].release?.()
      }
    }
    sessions.delete(key)
    sessions.set(key, session)
    return session
  }

  async release(): Promise<void> {
    for (const sessions of this.#sessions.values()) {
      for (const session of sessions.values()) await session.release?.()
    }
    this.#sessions.clear()
  }

  #variantOf(slots: Slots): GraphVariant {
    const key = JSON.stringify([...slots].sort(([a], [b]) => (a < b ? -1 : 1)))
    let variant = this.#variants.get(key)
    if (variant === undefined) {
      variant = { key, slots, ...addBypass(this.#source.graph, slots) }
      this.#variants.set(key, variant)
    }
    return variant
  }

  #isOpen({ key }: GraphVariant): boolean {
    return [...this.#sessions.values()].some((sessions) => sessions.has(key))
  }
}

/** Whether a set that needs `wanted` runs in a variant: low-rank pairs may be zeros, anything else must be needed. */
function hasRoomFor(slots: Slots, wanted: Slots): boolean {
  if ([...wanted.keys()].some((site) => !slots.has(site))) return false
  return [...slots].every(([site, { lowRank, ...others }]) => {
    const { lowRank: isNeeded, ...needed } = wanted.get(site) ?? {}
    return (lowRank === true || isNeeded !== true) && JSON.stringify(others) === JSON.stringify(needed)
  })
}

/** Room for low-rank pairs wherever either has it, beside what the second has else. */
function joined(first: Slots, second: Slots): Slots {
  const slots = new Map(second)
  for (const [site, { lowRank }] of first) if (lowRank) slots.set(site, { ...second.get(site), lowRank })
  return slots
}
