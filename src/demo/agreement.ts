import type { SwitcherLoader } from '../element/shared_loader.ts'
import type { Closeness, Expert } from '../loader/index.ts'
import type { HeldOutText } from './measurement.ts'

/** Tokens of a window: few, so that even a slow device soon shows a first figure. */
const AGREEMENT_TOKENS = 64
const WINDOWS = 4

/** How often a compression, and the base, choose the same next token as the uncompressed expert. */
export interface Agreement {
  positions: number
  /** Positions with the same first choice. */
  own: number
  base: number
  /** KL(uncompressed ‖ compressed), in bits, over all positions. */
  klBits: number
}

/** A text to measure on; `read` gives its beginning. */
export interface MeasuredText extends Pick<HeldOutText, 'name'> {
  read(characters: number, signal: AbortSignal): Promise<string>
}

/** More than a token has on average in any text. */
const CHARACTERS_PER_TOKEN = 16

/**
 * Compares a compressed expert with the uncompressed one, on the first window of every text, then on the second, …
 * @param found - called after every window with the sum so far
 * @throws what loading or reading throws; `AbortError`
 */
export async function measureAgreement(
  loader: Pick<SwitcherLoader, 'tokenize' | 'compare'>,
  { uncompressed, own }: { uncompressed: Expert; own: Expert },
  texts: readonly MeasuredText[],
  found: (agreement: Agreement) => void,
  signal: AbortSignal,
): Promise<void> {
  const tokens = await Promise.all(
    texts.map(async (text) =>
      loader.tokenize(await text.read(WINDOWS * AGREEMENT_TOKENS * CHARACTERS_PER_TOKEN, signal)),
    ),
  )
  const sum: Agreement = { positions: 0, own: 0, base: 0, klBits: 0 }
  for (let window = 0; window < WINDOWS; window++) {
    for (const all of tokens) {
      signal.throwIfAborted()
      const part = all.slice(window * AGREEMENT_TOKENS, (window + 1) * AGREEMENT_TOKENS)
      if (part.length < 2) continue
      const [compressed, base] = (await loader.compare(part, uncompressed, [own, []])) as [
        Closeness,
        Closeness,
      ]
      sum.positions += compressed.positions
      sum.own += compressed.agreeing
      sum.base += base.agreeing
      sum.klBits += compressed.klBits
      signal.throwIfAborted()
      found({ ...sum })
    }
  }
}
