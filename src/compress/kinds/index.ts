/**
 * The kinds of adapter whose change of a weight is formed at compression, by `peft_type`.
 *
 * @module
 */
import { c3a, miss } from './blocks.ts'
import { beft, shira, trainableTokens } from './entries.ts'
import type { AdapterKind } from './kind.ts'
import { adalora, delora, gralora, hira, pvera, randlora, vblora, vera } from './low_rank.ts'
import { loha, lokr } from './lycoris.ts'
import { boft, hra, oft, road } from './orthogonal.ts'
import { fourierft, waveft } from './spectral.ts'

const KINDS: Readonly<Record<string, AdapterKind>> = {
  ADALORA: adalora,
  BEFT: beft,
  BOFT: boft,
  BONE: miss,
  C3A: c3a,
  DELORA: delora,
  FOURIERFT: fourierft,
  GRALORA: gralora,
  HIRA: hira,
  HRA: hra,
  LN_TUNING: { label: 'LN tuning', parts: [], fields: [], change: () => ({}) },
  LOHA: loha,
  LOKR: lokr,
  MISS: miss,
  OFT: oft,
  PVERA: pvera,
  RANDLORA: randlora,
  ROAD: road,
  SHIRA: shira,
  TRAINABLE_TOKENS: trainableTokens,
  VBLORA: vblora,
  VERA: vera,
  WAVEFT: waveft,
}

export function kindOf(peftType: string): AdapterKind | undefined {
  return Object.hasOwn(KINDS, peftType) ? KINDS[peftType] : undefined
}

/** Names of tensors of any of the kinds, for telling what a file is. */
const PARTS = new RegExp(
  String.raw`(^|\.)(${Object.values(KINDS)
    .flatMap(({ parts, shared = [] }) => [...parts, ...shared])
    .filter((part) => !part.startsWith('lora_') || part === 'lora_E')
    .join('|')})(\.|$)`,
)

/** Whether a tensor is one that some kind of adapter trains. */
export function isKindsTensor(name: string): boolean {
  return PARTS.test(name)
}
