import { TritswapError } from '../errors.ts'

/** A text, or two that belong together, and what a model is to say of it. */
export interface Labelled {
  text: string
  /** Of two sentences, the second. */
  pair?: string
  label: string
}

/**
 * Labelled texts of a file of JSON lines, `{"text", "label"}` with an optional `"pair"`. Numbers count as labels.
 * @param name - of the file, for messages
 * @throws {TritswapError} `input` naming the line that is not one
 */
export function parseLabelled(text: string, name: string): Labelled[] {
  const all = text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    const labelled = labelledOf(line)
    if (labelled !== undefined) return [labelled]
    throw new TritswapError(
      'input',
      `Cannot read line ${i + 1} of ${name}: expected {"text", "label"}, with a "pair" or not, found ${line.slice(0, 80)}`,
      { fields: { file: name, line: i + 1 } },
    )
  })
  if (all.length > 0) return all
  throw new TritswapError('input', `Cannot score ${name}: it has no labelled texts`, {
    fields: { file: name },
  })
}

function labelledOf(line: string): Labelled | undefined {
  let value: Record<string, unknown> | null
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  const { text, pair, label } = value ?? {}
  if (typeof text !== 'string' || !(pair === undefined || typeof pair === 'string')) return undefined
  if (typeof label !== 'string' && !Number.isInteger(label)) return undefined
  return { text, pair, label: String(label) }
}
