/**
 * Names that differ in one number, as those of a model's layers do, as one pattern.
 *
 * @module
 */

/** Stands for the number in a pattern. */
export const NUMBER_PLACE = '*'

/** The largest number that a name can be taken apart at. */
export const MAX_NUMBER = 2 ** 31 - 1

/** The first component of a dotted name that is a number, and the name with the place of it; undefined of others. */
export function numberedName(name: string): { pattern: string; number: number } | undefined {
  if (name.includes(NUMBER_PLACE)) return undefined
  const components = name.split('.')
  const at = components.findIndex(
    (component) => /^(0|[1-9]\d*)$/.test(component) && Number(component) <= MAX_NUMBER,
  )
  if (at < 0) return undefined
  const number = Number(components[at])
  components[at] = NUMBER_PLACE
  return { pattern: components.join('.'), number }
}

/** The name with this number in the place of a pattern. */
export function nameWithNumber(pattern: string, number: number): string {
  return pattern.replace(NUMBER_PLACE, String(number))
}
