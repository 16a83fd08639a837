/** Attributes as properties: what is not there is undefined, and left to others to say. */

/** An attribute that is not a number counts as missing. */
export function readNumber(value: string | null): number | undefined {
  const number = Number(value ?? Number.NaN)
  return Number.isFinite(number) && value?.trim() !== '' ? number : undefined
}

/** One text, or several as a JSON array. */
export function readStopStrings(value: string | null): string | string[] | undefined {
  if (value === null || value === '') return undefined
  if (!value.trimStart().startsWith('[')) return value
  try {
    return (JSON.parse(value) as unknown[]).map(String)
  } catch {
    // A text that begins with a bracket.
    return value
  }
}

export function readText(value: string | null): string | undefined {
  return value ?? undefined
}
