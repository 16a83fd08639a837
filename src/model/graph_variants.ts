/**
 * The variants of a hoisted graph that take inputs beside its weights. A session of a variant is created when a forward
 * pass first needs it.
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

/** Sessions of one graph that are kept open; beyond it the least recently used is released. */
const MAX_SESSIONS = 16

interface Variant {
  inputs: readonly BypassInput[]
  /** Until its session is made. */
  bytes?: Uint8Array<ArrayBuffer>
}

export class GraphVariants {
  readonly #source: VariantSource
  readonly #variants = new Map<string, Variant>()
  /** By base session: least recently used first. */
  readonly #sessions = new Map<OrtSession, Map<string, OrtSession>>()

  constructor(source: VariantSource) {
    this.#source = source
  }

  /** The inputs of the variant with these slots, and its key. */
  inputsOf(slots: ReadonlyMap<string, SiteBypass>): { key: string; inputs: readonly BypassInput[] } {
    const key = keyOf(slots)
    let variant = this.#variants.get(key)
    if (variant === undefined) {
      variant = addBypass(this.#source.graph, slots)
      this.#variants.set(key, variant)
    }
    return { key, inputs: variant.inputs }
  }

  /** The session of a variant. Only to be called while nothing runs: onnxruntime-web does one thing at a time. */
  async session(base: OrtSession, slots: ReadonlyMap<string, SiteBypass>): Promise<OrtSession> {
    const { key } = this.inputsOf(slots)
    const sessions = this.#sessions.get(base) ?? new Map<string, OrtSession>()
    this.#sessions.set(base, sessions)
    let session = sessions.get(key)
    if (session === undefined) {
      const variant = this.#variants.get(key) as Variant
      const bytes = variant.bytes ?? addBypass(this.#source.graph, slots).bytes
      session = await this.#source.create(base, bytes)
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
}

function keyOf(slots: ReadonlyMap<string, SiteBypass>): string {
  return JSON.stringify([...slots].sort(([a], [b]) => (a < b ? -1 : 1)))
}
