import type { WrittenToken } from './token_writer.ts'
import { formatWait } from './units.ts'

/**
 * How long a token takes and how long the text will take, on an adapter where that is long. The first token tells it,
 * the ones after it more exactly: the first one includes the reading of the prompt.
 * @param limit - tokens of the text at most
 */
export function paceOf(tokens: readonly WrittenToken[], limit: number, writing: boolean): string {
  if (tokens.length === 0) {
    return writing ? 'Reading what you wrote. This is a software adapter: a token may take seconds.' : ''
  }
  const [first, ...rest] = tokens
  const ms = rest.length === 0 ? first!.ms : rest.reduce((sum, token) => sum + token.ms, 0) / rest.length
  const each =
    rest.length === 0
      ? `The first token took ${formatWait(ms)}, including reading your text`
      : `A token takes ${formatWait(ms)}`
  const left = Math.max(0, limit - tokens.length)
  if (!writing)
    return `${tokens.length} ${tokens.length === 1 ? 'token' : 'tokens'}. ${each} on this software adapter.`
  const rate = `${each}, on a software adapter.`
  return left === 0 ? rate : `${rate} Up to ${left} more: ${formatWait(left * ms)} at most.`
}
