/**
 * The base and its experts as pens: what is known of each, and how a registry becomes a list of them.
 *
 * @module
 */
import { openChunkCache } from '../source/cache.ts'
import type { RegistryEntry } from '../source/registry.ts'
import { INKS } from './theme.ts'

/** The base or an expert, and where its bytes are. The base is the pen with the id ''. */
export interface Pen extends Omit<RegistryEntry, 'url' | 'rootHash'> {
  url?: string
  /** The bytes themselves, if the visitor brought them. */
  file?: Blob
  rootHash?: string
  /** Index of its ink; 0 is the pencil. */
  ink: number
  place: 'network' | 'fetching' | 'vram'
  /** Bytes received so far, while `place` is 'fetching'. */
  loaded: number
  error?: string
  /** Its whole file is in the browser's cache: it needs no network. */
  cached?: boolean
  /** All compressions of this expert that the registry lists, itself included, if there are several. */
  variants?: readonly Pen[]
}

/** What a page says of a pen that it adds itself. */
export type PenEntry = Omit<Pen, 'ink' | 'place' | 'loaded'>

/** A pen and how strongly it is applied; 1 is the expert as it was made. */
export interface WeightedPen {
  pen: Pen
  weight: number
}

/** An expert of the registry and its weight, for `activate`. */
export interface WeightedId {
  id: string
  weight: number
}

export function basePen(): Pen {
  return newPen(
    { id: '', label: 'Base', description: 'No file: the model as it was trained, bit for bit.', bytes: 0 },
    0,
  )
}

export function newPen(entry: PenEntry, ink: number): Pen {
  return { ...entry, ink, place: 'network', loaded: 0 }
}

/** The ink of the expert at an index among the experts: there are more experts than inks. */
export function inkAt(index: number): number {
  return (index % INKS) + 1
}

/**
 * The experts of a registry as pens. Another compression of an expert that is listed too gets no pen of its own: it is a
 * choice on that expert's card.
 */
export function pensOfRegistry(entries: readonly RegistryEntry[]): Pen[] {
  const originals = originalsOf(entries)
  const groups = new Map<string, RegistryEntry[]>()
  for (const entry of entries) if (originals.get(entry.id) === entry.id) groups.set(entry.id, [entry])
  for (const entry of entries) if (!groups.has(entry.id)) groups.get(originals.get(entry.id)!)!.push(entry)
  return [...groups.values()].map((group, index) => {
    // All of them are one pen, whose size can be chosen.
    const { label, description } = group[0]!
    const pens = group.map((entry) => newPen({ ...entry, label, description }, inkAt(index)))
    if (pens.length > 1) for (const pen of pens) pen.variants = pens
    return pens[0]!
  })
}

/**
 * For the id of each entry, that of the expert whose compression it is: where `variantOf` leads in the end, also over
 * other variants. Of entries that name each other in a circle, the one that is met first stands for the expert.
 */
function originalsOf(entries: readonly RegistryEntry[]): Map<string, string> {
  const next = new Map(entries.map(({ id, variantOf }) => [id, variantOf]))
  const originals = new Map<string, string>()
  for (const { id } of entries) {
    const path = new Set<string>()
    let at = id
    while (!originals.has(at) && !path.has(at)) {
      path.add(at)
      const to = next.get(at)
      if (to !== undefined && next.has(to)) at = to
    }
    const original = originals.get(at) ?? at
    for (const passed of path) originals.set(passed, original)
  }
  return originals
}

/** Notes for each pen whether its whole file is in the browser's cache. */
export async function noteCached(pens: readonly Pen[]): Promise<void> {
  const files = await openChunkCache()
    .list()
    .catch(() => [])
  const whole = new Set(files.filter(({ complete }) => complete).map(({ rootHash }) => rootHash))
  for (const pen of pens) pen.cached = pen.rootHash !== undefined && whole.has(pen.rootHash)
}

/** The pens in hand, in words. */
export function nameOfHand(hand: readonly WeightedPen[]): string {
  if (hand.length === 0) return 'Base'
  return hand.map(({ pen, weight }) => (weight === 1 ? pen.label : `${pen.label} × ${weight}`)).join(' + ')
}

export function heaviestFirst(a: WeightedPen, b: WeightedPen): number {
  return Math.abs(b.weight) - Math.abs(a.weight)
}
