import { integer, invalid, oneOf } from '../fields.ts'
import { MAX_TERMS } from '../limits.ts'
import type { TensorCommon } from '../tensor.ts'
import { weightsOf } from '../tiling.ts'
import { type Codec, PIECE_WEIGHTS } from './codec.ts'
import {
  decodeTerms,
  type Terms,
  type TermsPacking,
  termsBytes,
  termsEntries,
  termsValues,
} from './terms_code.ts'

export interface TermsTensor extends TensorCommon {
  codec: 'terms'
  /** Ternary rank-1 matrices that add up to the tensor. */
  terms: number
  /** How their entries are written; `trits` by default. */
  packing?: TermsPacking
}

/** The default, which a table leaves out, comes first. */
const PACKINGS = ['trits', 'mask'] as const satisfies readonly TermsPacking[]
const [DEFAULT_PACKING] = PACKINGS

/** A change of low rank: Σ scale · x · yᵀ with the entries of x and y in {−1, 0, 1}. */
export const terms: Codec<TermsTensor> = {
  name: 'terms',
  kinds: ['expert'],
  onlyDeltas: true,
  fieldsFrom: (entry, at) => ({
    terms: integer(entry.terms, `${at}.terms`, 1, MAX_TERMS),
    ...(entry.packing !== undefined && { packing: oneOf(entry.packing, `${at}.packing`, PACKINGS) }),
  }),
  fieldsToJson: ({ terms, packing = DEFAULT_PACKING }) => ({
    terms,
    packing: packing === DEFAULT_PACKING ? undefined : packing,
  }),
  checkBytes({ name, shape, terms, packing = DEFAULT_PACKING, bytes }) {
    const [least, most] = [0, termsEntries(shape, terms)].map((kept) =>
      termsBytes(shape, terms, packing, kept),
    )
    const expected = least === most ? `${least}` : `${least} to ${most}`
    if (bytes < least || bytes > most)
      throw invalid(`bytes of ${name}`, `${expected} bytes of ${terms} terms`, bytes)
  },
  summary: ({ shape, terms }) => ({ kept: weightsOf(shape), terms }),
  form: ({ terms }) => ({ kind: 'terms', terms }),
  decode: (tensor, section) =>
    termsValues(termsOf(tensor, section), tensor.shape, 0, weightsOf(tensor.shape)),
  terms: termsOf,
  pieces(tensor, section) {
    const decoded = termsOf(tensor, section)
    return piecesOf(decoded, tensor.shape)
  },
}

function* piecesOf(terms: Terms, shape: readonly number[]): Generator<Float32Array<ArrayBuffer>> {
  const weights = weightsOf(shape)
  for (let from = 0; from < weights; from += PIECE_WEIGHTS)
    yield termsValues(terms, shape, from, Math.min(weights, from + PIECE_WEIGHTS))
}

function termsOf(
  { shape, terms, packing }: Pick<TermsTensor, 'shape' | 'terms' | 'packing'>,
  section: Uint8Array,
): Terms {
  return decodeTerms(section, shape, terms, packing)
}
