/**
 * Sums of terms: what several experts change of one target, as terms again.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { decodeTermsOf, summaryOf } from '../format/codecs/index.ts'
import type { Terms } from '../format/codecs/terms_code.ts'
import { MAX_TERMS } from '../format/limits.ts'
import { readSection } from '../format/section.ts'
import type { TritTensor } from '../format/table.ts'
import { memorySource } from '../source/memory.ts'
import type { ReadOptions } from '../source/source.ts'
import type { OwnTerms } from './compress.ts'
import { type OpenExpert, sameTensors } from './open_expert.ts'
import type { StoredTensor } from './safetensors.ts'
import { type DecomposedTarget, keptByTerm, type TermsTarget } from './terms.ts'

/** Whether all experts that have a tensor have terms of it. */
export function isOfTerms(experts: readonly OpenExpert[], name: string): boolean {
  return sameTensors(experts, name).every((tensor) => tensor === undefined || termsOf(tensor) > 0)
}

/** Terms that a tensor of all experts has together. */
export function termsTogether(experts: readonly OpenExpert[], name: string): number {
  return sameTensors(experts, name).reduce((sum, tensor) => sum + (tensor ? termsOf(tensor) : 0), 0)
}

function termsOf(tensor: TritTensor): number {
  return summaryOf(tensor).terms ?? 0
}

/**
 * The weighted sum of the terms of some names, each as terms.
 * @param sharesFor - what each expert's terms of a name are multiplied with
 * @param fewer - at most this many terms of each, found anew on the sum; else those of all experts side by side, which are the
 * sum itself
 * @throws {TritswapError} `limit` for more terms than a tensor may have
 */
export async function summedTerms(
  experts: readonly OpenExpert[],
  names: readonly string[],
  sharesFor: (name: string) => readonly number[],
  fewer: number | undefined,
  options?: ReadOptions,
): Promise<OwnTerms> {
  const targets: TermsTarget[] = []
  const found: DecomposedTarget[] = []
  for (const name of names) {
    const { shape, target, layout } = sameTensors(experts, name).find((tensor) => tensor !== undefined)!
    const common = { names: [name], name, target, layout, shape }
    const count = termsTogether(experts, name)
    if (fewer === undefined && count > MAX_TERMS)
      throw new TritswapError(
        'limit',
        `Cannot merge ${name}: the experts have ${count} terms of it together, over the ${MAX_TERMS} that a tensor may have; give --terms or --bytes`,
        { fields: { tensor: name, terms: count, limit: MAX_TERMS } },
      )
    const { scales, x, y } = together(await weightedTerms(experts, name, sharesFor(name), options))
    if (fewer !== undefined) {
      const change = pairOf({ scales, x, y }, name)
      targets.push({ ...common, change, rule: { codec: 'terms', terms: fewer } })
      continue
    }
    // The last step is of all terms: their scales are the sum's own, and it has all the energy.
    const steps = Array.from(scales, () => ({ scales: Float64Array.from(scales), energy: 1 }))
    const decomposition = { x, y, steps, squares: Number.NaN }
    found.push({ ...common, decomposition, kept: keptByTerm(decomposition), count })
  }
  return { targets, found }
}

async function weightedTerms(
  experts: readonly OpenExpert[],
  name: string,
  weights: readonly number[],
  options?: ReadOptions,
): Promise<Terms[]> {
  const all: Terms[] = []
  for (const [i, tensor] of sameTensors(experts, name).entries()) {
    if (tensor === undefined) continue
    const { source, head } = experts[i]
    const own = decodeTermsOf(tensor, await readSection(source, head, tensor, options))!
    all.push({ ...own, scales: own.scales.map((scale) => weights[i] * scale) })
  }
  return all
}

function together(all: readonly Terms[]): Terms {
  const joined = (parts: readonly Int8Array[]) => {
    const whole = new Int8Array(parts.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const part of parts) {
      whole.set(part, at)
      at += part.length
    }
    return whole
  }
  return {
    scales: Float32Array.from(all.flatMap(({ scales }) => [...scales])),
    x: joined(all.map(({ x }) => x)),
    y: joined(all.map(({ y }) => y)),
  }
}

/** Terms as the factors that they are: A the vectors over the columns, B those over the rows with their scales. */
function pairOf({ scales, x, y }: Terms, name: string): TermsTarget['change'] {
  const rank = scales.length
  const rows = x.length / rank
  const b = new Float32Array(x.length)
  for (let t = 0; t < rank; t++)
    for (let row = 0; row < rows; row++) b[row * rank + t] = scales[t] * x[t * rows + row]
  return {
    a: stored(name, [rank, y.length / rank], Float32Array.from(y)),
    b: stored(name, [rows, rank], b),
    scaling: 1,
    transposed: false,
  }
}

function stored(name: string, shape: readonly number[], values: Float32Array<ArrayBuffer>): StoredTensor {
  const source = memorySource(new Uint8Array(values.buffer), name)
  return { name, dtype: 'F32', shape, weights: values.length, source, offset: 0, bytes: values.byteLength }
}
