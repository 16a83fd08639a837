import type { HoistedInput } from '../../format/index.ts'

/**
 * Names of hoisted inputs over all graphs of a model: one name is one buffer, so equal inputs share a name and
 * different ones never do.
 */
export class InputNames {
  readonly #keyOf = new Map<string, string>()
  readonly #nameOf = new Map<string, string>()

  /**
   * @param own - name of the initializer
   * @param isFree - whether the graph at hand can have an input of that name
   */
  choose(
    own: string,
    { dtype, dims, raw, parts }: Omit<HoistedInput, 'name'>,
    isFree: (name: string) => boolean,
  ): string {
    const key = JSON.stringify([dtype, dims, raw, parts])
    const candidates = [this.#nameOf.get(key) ?? own, own]
    for (let n = 1; ; n++) {
      const name = candidates.shift() ?? `${own}::${parts[0].tensor}${n === 1 ? '' : `::${n}`}`
      if ((this.#keyOf.get(name) ?? key) !== key || !isFree(name)) continue
      this.#keyOf.set(name, key)
      if (!this.#nameOf.has(key)) this.#nameOf.set(key, name)
      return name
    }
  }
}
