import { closeness, firstChoices, scoreWindow, type WindowLogits } from '../model/score.ts'
import type { LogitsFile } from './logits_file.ts'
import type { ExampleScore } from './scores.ts'

/** What to do with the logits of a model on examples. */
export interface ScoreOptions {
  /** Other models on the same examples to compare with. */
  beside?: readonly LogitsFile[]
  /** Takes the logits, for later models to be compared with. */
  keep?: LogitsFile
  /** Called after each example. */
  onExample?: () => void
}

/**
 * What a model does on one example; examples come in order.
 * @param i - of the example, in `beside`
 * @param logits - row by row, of the tokens after the first
 * @param tokens - one more than predicted: row i predicts what follows token i
 */
export async function scoreExample(
  i: number,
  logits: WindowLogits,
  tokens: readonly number[],
  { beside = [], keep, onExample }: ScoreOptions,
): Promise<ExampleScore> {
  const compared = []
  for (const file of beside) {
    const { agreeing, klBits } = closeness(await file.read(i), logits, tokens.length)
    compared.push({ agreeing, klBits })
  }
  await keep?.add(logits)
  onExample?.()
  return {
    ...scoreWindow(logits.data, logits.vocabulary, tokens),
    firstChoices: firstChoices(logits.data, logits.vocabulary, tokens),
    beside: compared,
  }
}
