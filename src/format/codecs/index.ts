/**
 * The registry of codecs: each is a file of this folder and a line of {@link CODECS}.
 *
 * @module
 */
import { isTritswapError, TritswapError } from '../../errors.ts'
import { invalid } from '../fields.ts'
import type { Steps } from '../steps.ts'
import type { CodedTensor, Described, TritKind } from '../tensor.ts'
import type { Codec, SectionForm, TensorSummary } from './codec.ts'
import { dense } from './dense.ts'
import { exact } from './exact.ts'
import { nbits } from './nbits.ts'
import { terms } from './terms.ts'
import type { Terms } from './terms_code.ts'
import { ternary } from './ternary.ts'
import type { TernaryEntries } from './ternary_decode.ts'

/** The first is the default, which a table leaves out. */
const CODECS = [ternary, dense, nbits, terms, exact] as const

type TensorOf<C> = C extends Codec<infer T> ? T : never

/** A tensor of any registered codec, told apart by `codec`: {@link TernaryTensor}, {@link DenseTensor}, {@link TermsTensor}, {@link ExactTensor} or quantized. */
export type TritTensor = TensorOf<(typeof CODECS)[number]>

const byName = new Map<string, Codec>()
for (const codec of CODECS) registerCodec(codec)

/** Adds a codec for the life of this thread: how a test tries one without a line above. */
export function registerCodec(codec: Codec): void {
  byName.set(codec.name, codec)
}

/** Name of the codec of an entry that names none. */
export const DEFAULT_CODEC = CODECS[0].name

/** Names of the codecs that a kind of file may hold. */
export function codecsOf(kind: TritKind): string[] {
  return Array.from(byName.values())
    .filter(({ kinds }) => kinds.includes(kind))
    .map(({ name }) => name)
}

/**
 * The codec that a table entry names.
 * @throws {TritswapError} `format` for one that is not registered
 */
export function codecFrom(value: unknown, field: string): Codec {
  const codec = typeof value === 'string' ? byName.get(value) : undefined
  if (codec === undefined) throw invalid(field, [...byName.keys()].join(' or '), value)
  return codec
}

export function codecOf(tensor: Described): Codec {
  return codecFrom(tensor.codec, `codec of ${tensor.name}`)
}

/** What the table alone tells of a tensor's values. */
export function summaryOf(tensor: Described): TensorSummary {
  return codecOf(tensor).summary(tensor)
}

/** Whether a tensor's values are 0 and ±scale. */
export function isTernary(tensor: Described): boolean {
  return summaryOf(tensor).scale !== undefined
}

/** What the bytes of a tensor's section are to a kernel. */
export function formOf(tensor: Described): SectionForm {
  return codecOf(tensor).form(tensor)
}

/**
 * The values of a tensor in flat row-major order, whatever its codec; a ternary one as 0 and ±scale, one of steps as their
 * numbers rounded to f32.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeValues(
  tensor: CodedTensor,
  section: Uint8Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  return named(tensor, () => codecOf(tensor).decode(tensor, section))
}

/** The entries that are not 0 of a tensor whose values are 0 and ±scale. */
export interface ScaledEntries extends TernaryEntries {
  scale: number
}

/**
 * The entries of a tensor whose values are 0 and ±scale, in any order; undefined for others.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeEntries(
  tensor: CodedTensor,
  section: Uint8Array<ArrayBuffer>,
): ScaledEntries | undefined {
  const codec = codecOf(tensor)
  const { scale } = codec.summary(tensor)
  const entries = named(tensor, () => codec.entries?.(tensor, section))
  return entries === undefined || scale === undefined ? undefined : { ...entries, scale }
}

/** Entries as `index · 2`, plus 1 where negative, in ascending order. Indices are below 2³⁰. */
export function sortedCodes({ indices, negative }: TernaryEntries): Uint32Array<ArrayBuffer> {
  return indices.map((index, i) => index * 2 + negative[i]).sort() as Uint32Array<ArrayBuffer>
}

/**
 * The vectors and scales of a tensor of terms; undefined of others.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeTermsOf(tensor: CodedTensor, section: Uint8Array<ArrayBuffer>): Terms | undefined {
  const codec = codecOf(tensor)
  return named(tensor, () => codec.terms?.(tensor, section))
}

/**
 * The steps of a tensor of steps; undefined of others.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeStepsOf(tensor: CodedTensor, section: Uint8Array<ArrayBuffer>): Steps | undefined {
  const codec = codecOf(tensor)
  return named(tensor, () => codec.steps?.(tensor, section))
}

/**
 * The values of a tensor in pieces, where its codec can give them so; undefined of others.
 * @throws {TritswapError} `format` for a section that is not what the table says
 */
export function decodeInPieces(
  tensor: CodedTensor,
  section: Uint8Array<ArrayBuffer>,
): Iterable<Float32Array<ArrayBuffer>> | undefined {
  const codec = codecOf(tensor)
  return named(tensor, () => codec.pieces?.(tensor, section))
}

/** Runs a step of a codec; its errors say whose section it was. */
function named<R>(tensor: CodedTensor, run: () => R): R {
  try {
    return run()
  } catch (cause) {
    const { name, codec } = tensor
    const message = `${name}: ${cause instanceof Error ? cause.message : String(cause)}`
    if (!isTritswapError(cause)) throw new Error(`${message} (in codec ${codec})`, { cause })
    throw new TritswapError(cause.tag, message, { fields: { tensor: name, codec, ...cause.fields }, cause })
  }
}
