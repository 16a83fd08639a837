import { decodeStepsOf, decodeTermsOf } from '../format/codecs/index.ts'
import { decodeValues, readHead, readSection, type Terms, type TritTable } from '../format/index.ts'
import type { Steps } from '../format/steps.ts'
import type { ByteSource } from '../source/source.ts'

/** An expert with the values of its tensors in table order; ternary ones as 0 and ±scale. */
export interface ReferenceExpert {
  table: TritTable
  values: readonly Float32Array[]
  /** The vectors of its tensors of terms, by their position in the table. */
  terms?: ReadonlyMap<number, Terms>
  /** The steps of its tensors of steps, likewise. */
  steps?: ReadonlyMap<number, Steps>
}

/** @throws {TritswapError} what reading and checking a `.trit` file throws */
export async function readExpert(source: ByteSource): Promise<ReferenceExpert> {
  const head = await readHead(source)
  const values: Float32Array[] = []
  const terms = new Map<number, Terms>()
  const steps = new Map<number, Steps>()
  for (const [index, tensor] of head.table.tensors.entries()) {
    const section = await readSection(source, head, tensor)
    values.push(decodeValues(tensor, section))
    const vectors = decodeTermsOf(tensor, section)
    if (vectors !== undefined) terms.set(index, vectors)
    const own = decodeStepsOf(tensor, section)
    if (own !== undefined) steps.set(index, own)
  }
  return { table: head.table, values, terms, steps }
}
