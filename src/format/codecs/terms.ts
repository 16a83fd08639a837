import { integer, invalid } from '../fields.ts'
import { MAX_TERMS } from '../limits.ts'
import type { TensorCommon } from '../tensor.ts'
import { weightsOf } from '../tiling.ts'
import { type Codec, PIECE_WEIGHTS } from './codec.ts'
import { decodeTerms, type Terms, termsBytes, termsValues } from './terms_code.ts'

export interface TermsTensor extends TensorCommon {
  codec: 'terms'
  /** Ternary rank-1 matrices that add up to the tensor. */
  terms: number
}

/** A change of low rank: Σ scale · x · yᵀ with the entries of x and y in {−1, 0, 1}. */
export const terms: Codec<TermsTensor> = {
  name: 'terms',
  kinds: ['expert'],
  onlyDeltas: true,
  fieldsFrom: (entry, at) => ({ terms: integer(entry.terms, `${at}.terms`, 1, MAX_TERMS) }),
  fieldsToJson: ({ terms }) => ({ terms }),
  checkBytes({ name, shape, terms, bytes }) {
    const expected = termsBytes(shape, terms)
    if (bytes !== expected) throw invalid(`bytes of ${name}`, `${expected} bytes of ${terms} terms`, bytes)
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

function termsOf({ shape, terms }: Pick<TermsTensor, 'shape' | 'terms'>, section: Uint8Array): Terms {
  return decodeTerms(section, shape, terms)
}
