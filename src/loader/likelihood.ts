/**
 * A check on routing: how likely a text is under each expert that is loaded. It costs a pass of the model for each of them,
 * and tells apart what they write rather than what they are asked.
 *
 * @module
 */
import type { TextScore } from '../engine/protocol.ts'
import { TritswapError } from '../errors.ts'
import type { Ranked, Route } from '../route/route.ts'
import type { Expert } from './expert_library.ts'

/** Tokens that are read: what one pass takes. */
const WINDOW = 256

/** Bits a token that an expert must save to be chosen. */
const SAVED_BITS = 0.05

/** What the model is asked. */
export interface LikelihoodHost {
  tokenize(text: string): Promise<number[]>
  score(tokens: readonly number[], experts?: Expert): Promise<TextScore>
}

/**
 * Ranks experts by the bits a token that each saves over the base.
 * @throws {TritswapError} `input` for a text of fewer than two tokens; as `ExpertLoader.score`
 */
export async function routeByLikelihood(
  text: string,
  experts: readonly Expert[],
  host: LikelihoodHost,
  threshold = SAVED_BITS,
): Promise<Route> {
  const tokens = (await host.tokenize(text)).slice(0, WINDOW)
  if (tokens.length < 2) {
    throw new TritswapError(
      'input',
      `Cannot route by likelihood: expected a text of two tokens or more, found ${tokens.length}`,
      { fields: { tokens: tokens.length } },
    )
  }
  const bitsOf = async (expert?: Expert) => {
    const { bits, tokens: scored } = await host.score(tokens, expert)
    return bits / scored
  }
  const base = await bitsOf()
  const ranking: Ranked[] = []
  for (const expert of experts) {
    const saved = base - (await bitsOf(expert))
    ranking.push({ id: expert.id, label: expert.label, score: saved, similarity: saved / base })
  }
  ranking.sort((a, b) => b.score - a.score)
  const [first] = ranking
  const chosen = first !== undefined && first.score >= threshold ? first : undefined
  return { chosen, ranking, general: 0, threshold, why: reason(first, chosen) }
}

function reason(first: Ranked | undefined, chosen: Ranked | undefined): string {
  if (first === undefined) return 'No expert is loaded'
  const name = first.label ?? first.id
  const saved = `it is ${Math.abs(first.score).toFixed(2)} bits a token ${first.score < 0 ? 'less likely' : 'likelier'} to ${name} than to the base`
  return chosen === undefined ? `None fits: ${saved}` : `${name}: ${saved}`
}
