import { abortable } from '../async/abortable.ts'
import type { Pen } from '../element/pens.ts'
import type { SwitcherLoader } from '../element/shared_loader.ts'
import type { SwitcherState } from '../element/switcher_state.ts'
import { TritswapError } from '../errors.ts'

/** Tokens that the model sees at once, as `tritswap eval` cuts a text. */
const WINDOW_TOKENS = 256
/** Tokens of a first, coarse look at every cell, where a whole window takes long. */
const COARSE_TOKENS = 32

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
  /** Cells of which only {@link COARSE_TOKENS} tokens were read so far. */
  coarse: boolean[][]
  /** Cells that were measured, of all looks; and how many there will be. */
  done: number
  total: number
  /** ms that what is left will take, by what was measured so far. */
  leftMs?: number
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

/** @param coarse - look at every cell coarsely before any is measured on whole windows */
export function emptyMeasurement(pens: readonly Pen[], windows: number, coarse: boolean): Measurement {
  const texts = heldOutTexts(pens)
  return {
    pens,
    texts,
    windows,
    cells: pens.map(() => texts.map(() => undefined)),
    coarse: pens.map(() => texts.map(() => coarse)),
    done: 0,
    total: pens.length * texts.length * (coarse ? 2 : 1),
  }
}

/**
 * Fills a measurement, row by row: coarsely at first where it is asked for, then on whole windows.
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
  const { pens, texts, windows, cells, coarse, total } = measurement
  const tokens = await Promise.all(
    texts.map(async ({ url }) => {
      const start = (await fetchText(url, signal)).slice(0, windows * WINDOW_TOKENS * CHARACTERS_PER_TOKEN)
      return loader.tokenize(start)
    }),
  )
  const looks = coarse.flat().includes(true) ? [COARSE_TOKENS, WINDOW_TOKENS] : [WINDOW_TOKENS]
  for (const windowTokens of looks) {
    const isCoarse = windowTokens === COARSE_TOKENS
    const start = performance.now()
    const before = measurement.done
    for (const [row, pen] of pens.entries()) {
      const experts = await state.resident(pen.ink === 0 ? [] : [{ pen, weight: 1 }])
      for (const column of texts.keys()) {
        let bits = 0
        let bytes = 0
        for (let window = 0; window < (isCoarse ? 1 : windows); window++) {
          signal.throwIfAborted()
          const from = window * windowTokens
          const part = tokens[column]!.slice(from, from + windowTokens)
          if (part.length < 2) break
          // A stop does not wait for the window that is being read.
          const score = await abortable(loader.score(part, experts), signal)
          bits += score.bits
          bytes += score.bytes
        }
        cells[row]![column] = bytes > 0 ? bits / bytes : undefined
        coarse[row]![column] = isCoarse
        measurement.done += 1
        const cell = (performance.now() - start) / (measurement.done - before)
        const left = isCoarse ? total / 2 - measurement.done : total - measurement.done
        measurement.leftMs = left * cell
        changed()
      }
    }
  }
}

/** A measurement as the text of a JSON file. */
export function measurementJson({ pens, texts, windows, cells, coarse }: Measurement, about: object): string {
  const rows = pens.map(({ id, label, rootHash }, row) => ({
    id,
    label,
    rootHash,
    bitsPerByte: Object.fromEntries(texts.map(({ name }, column) => [name, cells[row]![column] ?? null])),
    // Of the first tokens of a text only: the rest was not measured.
    coarse: texts.filter((_, column) => coarse[row]![column]).map(({ name }) => name),
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
