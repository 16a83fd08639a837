import type { Example } from '../engine/answered_example.ts'
import { TritswapError } from '../errors.ts'
import { windowsOf } from '../model/score.ts'
import type { Tokenizer } from './tokenizer.ts'

/** Windows `[from, from + count)`, as far as the text has them. */
export interface WindowRange {
  from: number
  count: number
}

/** A window of a text, and the UTF-8 bytes of its predicted tokens: all but the first. */
export interface TextWindow {
  example: Example
  bytes: number
}

/** A text in windows of tokens. @throws {TritswapError} `input` for a range beyond the end of the text */
export function textWindows(
  text: string,
  tokenizer: Pick<Tokenizer, 'encode' | 'decode'>,
  { from, count }: WindowRange,
): TextWindow[] {
  const all = windowsOf(tokenizer.encode(text))
  const windows = all.slice(from, from + count).map((ids): TextWindow => {
    const bytes = new TextEncoder().encode(tokenizer.decode(ids.slice(1))).length
    return { example: { ids, first: 1 }, bytes }
  })
  if (windows.length > 0) return windows
  throw new TritswapError('input', `Cannot score windows from ${from}: the text has ${all.length}`, {
    fields: { from, windows: all.length },
  })
}
