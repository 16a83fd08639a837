/** Names of cases, which the page makes and the report looks up. */

const millions = (weights: number) => {
  const count = weights / 2 ** 20
  return `${count >= 1 ? Math.round(count) : count.toPrecision(2)} M`
}

export const sizeCase = (weights: number) => `A → B, ${millions(weights)} weights`
export const densityCase = (density: number, weights: number) =>
  `apply at ${Number((100 * density).toPrecision(3))} %, ${millions(weights)} weights`
export const residentCase = (count: number) => `on and off with ${count} resident`

/** Ways from a request to its first token, with the base at hand. */
export const WAYS = [
  'base alone',
  'auto, .trit of the adapter',
  'the same, its list not yet here',
  'auto, .trit of the fine-tuning',
  'f16 adapter by input',
  'full fine-tuning, loaded anew',
] as const
export type Way = (typeof WAYS)[number]
export const openingCase = (way: Way) => `first token: ${way}`

export const KINDS = ['f16 delta', 'int8 delta + gzip', 'f16 LoRA', '.trit'] as const
export type Kind = (typeof KINDS)[number]
export const STAGES = ['host', 'to the GPU', 'apply'] as const
export type Stage = (typeof STAGES)[number]
export const stageCase = (kind: Kind, stage: Stage) => `${kind}: ${stage}`
