/**
 * How text is generated with an expert, where a call does not say: an expert's file and a registry entry carry it, since
 * it belongs to the skill.
 */
export interface GenerationSettings {
  /** 128 by default. */
  maxNewTokens?: number
  /** What logits are divided by; 0 is greedy. */
  temperature?: number
  /** Only this many of the likeliest tokens can be drawn; 0 is all of them. */
  topK?: number
  /** Only the likeliest tokens whose probabilities add up to this can be drawn, over 0 and up to 1. */
  topP?: number
  /** Only tokens that are at least this fraction as likely as the likeliest can be drawn, from 0 to 1. */
  minP?: number
  /** Over 1, tokens that prompt and text already hold are less likely; also without sampling. */
  repetitionPenalty?: number
  /** The text ends before any of these. */
  stop?: string | readonly string[]
}

interface Range {
  least: number
  most: number
  isWhole?: boolean
}

const RANGES: Record<Exclude<keyof GenerationSettings, 'stop'>, Range> = {
  maxNewTokens: { least: 0, most: 2 ** 31 - 1, isWhole: true },
  temperature: { least: 0, most: 100 },
  topK: { least: 0, most: 2 ** 31 - 1, isWhole: true },
  topP: { least: 1e-6, most: 1 },
  minP: { least: 0, most: 1 },
  repetitionPenalty: { least: 0.01, most: 100 },
}

const MAX_STOPS = 64
const MAX_STOP_LENGTH = 1024

/** The first setting that is out of its range, with what was expected of it; unknown ones are not looked at. */
export function wrongSetting(
  settings: Readonly<Record<string, unknown>>,
): { field: string; expected: string; found: unknown } | undefined {
  for (const [field, { least, most, isWhole = false }] of Object.entries(RANGES)) {
    const found = settings[field]
    if (found === undefined) continue
    const isNumber = isWhole ? Number.isInteger(found) : typeof found === 'number'
    if (isNumber && (found as number) >= least && (found as number) <= most) continue
    return { field, expected: `a ${isWhole ? 'whole ' : ''}number from ${least} to ${most}`, found }
  }
  const { stop } = settings
  if (stop === undefined) return undefined
  const stops = stopsOf(stop as GenerationSettings['stop'])
  const isText = (text: unknown) => typeof text === 'string' && text !== '' && text.length <= MAX_STOP_LENGTH
  if (Array.isArray(stops) && stops.length <= MAX_STOPS && stops.every(isText)) return undefined
  return {
    field: 'stop',
    expected: `a text of 1 to ${MAX_STOP_LENGTH} characters, or at most ${MAX_STOPS} of them`,
    found: stop,
  }
}

/** Stop strings as a list. */
export function stopsOf(stop: GenerationSettings['stop']): readonly string[] {
  return typeof stop === 'string' ? [stop] : (stop ?? [])
}

/** The settings alone, of an object that holds more. */
export function settingsOf(from: GenerationSettings): GenerationSettings {
  const { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, stop } = from
  return { maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, stop }
}
