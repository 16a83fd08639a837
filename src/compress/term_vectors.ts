/**
 * How close the vectors of ternary terms are to their entropy. The head does not tell: their sections are read.
 *
 * @module
 */
import { decodeTermsOf, summaryOf, type TritTensor } from '../format/codecs/index.ts'
import type { TritHead } from '../format/head.ts'
import { readSection } from '../format/section.ts'
import type { ByteSource } from '../source/source.ts'
import { ternaryEntropy } from './ternary_entropy.ts'

/** The vectors of some terms, without their scales. */
export interface TermVectors {
  terms: number
  /** As stored. */
  bytes: number
  /** Σ n·H(kept/n)/8 over the vectors, each with its own share of zeros. */
  entropyBytes: number
}

/** Bytes of a term's scale. */
const SCALE_BYTES = 4

/**
 * The vectors of each tensor of terms, by its name.
 * @throws {TritswapError} `integrity` or `format` for sections that are not what the head says, or what the source throws
 */
export async function termVectors(source: ByteSource, head: TritHead): Promise<Map<string, TermVectors>> {
  const found = new Map<string, TermVectors>()
  for (const tensor of head.table.tensors) {
    if (summaryOf(tensor).terms !== undefined) found.set(tensor.name, await vectorsOf(source, head, tensor))
  }
  return found
}

async function vectorsOf(source: ByteSource, head: TritHead, tensor: TritTensor): Promise<TermVectors> {
  const { scales, x, y } = decodeTermsOf(tensor, await readSection(source, head, tensor))!
  const terms = scales.length
  const vectors = [x, y].flatMap((entries) => {
    const length = entries.length / terms
    return Array.from({ length: terms }, (_, t) => entries.subarray(t * length, (t + 1) * length))
  })
  const bits = vectors.reduce((sum, vector) => {
    const kept = vector.reduce((count, entry) => count + Math.abs(entry), 0)
    return sum + vector.length * ternaryEntropy(kept / vector.length)
  }, 0)
  return { terms, bytes: tensor.bytes - SCALE_BYTES * terms, entropyBytes: bits / 8 }
}
