/**
 * The tensors of a base under the names that others have for them.
 *
 * @module
 */
import type { StoredTensor } from './safetensors.ts'

/** Leading components that names may differ by: `model.`, `transformer.`, `model.text_model.`. */
const LEADING = 3

/**
 * Finds a base's tensor by a name that differs by leading components alone, or by `language_model`, which models of
 * text and images have around the same text model. A name that two tensors could go by finds none.
 */
export class BaseNames {
  readonly #tensors: ReadonlyMap<string, StoredTensor>
  /** By plain name without up to {@link LEADING} components; null for names that several share. */
  readonly #bySuffix = new Map<string, StoredTensor | null>()

  constructor(tensors: ReadonlyMap<string, StoredTensor>) {
    this.#tensors = tensors
    for (const [name, tensor] of tensors) {
      for (const suffix of suffixesOf(name))
        this.#bySuffix.set(suffix, this.#bySuffix.has(suffix) ? null : tensor)
    }
  }

  find(name: string): StoredTensor | undefined {
    const exact = this.#tensors.get(name)
    if (exact !== undefined) return exact
    for (const [dropped, suffix] of suffixesOf(name).entries()) {
      const found = this.#bySuffix.get(suffix)
      if (found === undefined) continue
      // Names without components of their own in front only match whole ones.
      return found !== null && (dropped === 0 || suffix === plainName(found.name)) ? found : undefined
    }
    return undefined
  }
}

function plainName(name: string): string {
  return name.replaceAll(/(^|\.)language_model(?=\.)/g, '').replace(/^\./, '')
}

/** A plain name, and what is left of it without its first components; at least two stay. */
function suffixesOf(name: string): string[] {
  const components = plainName(name).split('.')
  const count = Math.max(1, Math.min(LEADING + 1, components.length - 1))
  return Array.from({ length: count }, (_, dropped) => components.slice(dropped).join('.'))
}
