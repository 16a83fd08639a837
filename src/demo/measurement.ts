import { abortable } from '../async/abortable.ts'
import type { Pen } from '../element/pens.ts'
import type { SwitcherLoader } from '../element/shared_loader.ts'
import type { SwitcherState } from '../element/switcher_state.ts'
import { TritswapError } from '../errors.ts'

/** Tokens that the model sees at once, as `tritswap eval` cuts a text. */
const WINDOW_TOKENS = 256

/** More than a token has on average in any text. */
const CHARACTERS_PER_TOKEN = 16

export interface HeldOutText {
  name: string
  url: string
}

export interface Measurement {
  pens: readonly Pen[]
  texts: readonly HeldOutText[]
  windows: number
  /** Bits per byte by pen and text; undefined until it is measured. */
  cells: (number | undefined)[][]
  done: number
}

/** The held-out texts that a registry names, without repeats. */
export function heldOutTexts(pens: readonly Pen[]): HeldOutText[] {
  const texts = new Map<string, HeldOutText>()
  for (const { text } of pens) {
    if (text === undefined || !/^https?:/.test(text)) continue
    const file = new URL(text).pathname.split('/').at(-1) ?? text
    texts.set(text, { name: file.replace(/\.\w+$/, ''), url: text })
  }
  return [...texts.values()]
}

export function emptyMeasurement(pens: readonly Pen[], windows: number): Measurement {
  const texts = heldOutTexts(pens)
  return { pens, texts, windows, cells: pens.map(() => texts.map(() => undefined)), done: 0 }
}

/**
 * Fills a measurement, row by row.
 * @param changed - called after every cell
 * @throws {TritswapError} `network` for a text that cannot be fetched; the error of an expert's load; `AbortError`
 */
export async function measure(
  measurement: Measurement,
  loader: Pick<SwitcherLoader, 'tokenize' | 'score'>,
  state: Pick<SwitcherState, 'resident'>,
  changed: () => void,
  signal: AbortSignal,
): Promise<void> {
  const { pens, texts, windows, cells } = measurement
  const tokens = await Promise.all(
    texts.map(async ({ url }) => {
      const start = (await fetchText(url, signal)).slice(0, windows * WINDOW_TOKENS * CHARACTERS_PER_TOKEN)
      return loader.tokenize(start)
    }),
  )
  for (const [row, pen] of pens.entries()) {
    const experts = await state.resident(pen.ink === 0 ? [] : [{ pen, weight: 1 }])
    for (const column of texts.keys()) {
      let bits = 0
      let bytes = 0
      for (let window = 0; window < windows; window++) {
        signal.throwIfAborted()
        const start = window * WINDOW_TOKENS
        const part = tokens[column]!.slice(start, start + WINDOW_TOKENS)
        if (part.length < 2) break
        // A stop does not wait for the window that is being read.
        const score = await abortable(loader.score(part, experts), signal)
        bits += score.bits
        bytes += score.bytes
      }
      cells[row]![column] = bytes > 0 ? bits / bytes : undefined
      measurement.done += 1
      changed()
    }
  }
}

/** A measurement as the text of a JSON file. */
export function measurementJson({ pens, texts, windows, cells }: Measurement, about: object): string {
  const rows = pens.map(({ id, label, rootHash }, row) => ({
    id,
    label,
    rootHash,
    bitsPerByte: Object.fromEntries(texts.map(({ name }, column) => [name, cells[row]![column] ?? null])),
  }))
  return `${JSON.stringify({ ...about, windows, windowTokens: WINDOW_TOKENS, texts, rows }, null, 2)}\n`
}

/** @throws {TritswapError} `network` for a text that cannot be fetched */
export async function fetchText(url: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(url, { signal })
  if (!response.ok) {
    throw new TritswapError('network', `Cannot fetch ${url}: the server answered ${response.status}`, {
      fields: { url, status: response.status },
    })
  }
  return response.text()
}
