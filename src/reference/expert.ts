import { decodeValues, readHead, readSection, type TritTable } from '../format/index.ts'
import type { ByteSource } from '../source/source.ts'

/** An expert with the values of its tensors in table order; ternary ones as 0 and ±scale. */
export interface ReferenceExpert {
  table: TritTable
  values: readonly Float32Array[]
}

/** @throws {TritswapError} what reading and checking a `.trit` file throws */
export async function readExpert(source: ByteSource): Promise<ReferenceExpert> {
  const head = await readHead(source)
  const values: Float32Array[] = []
  for (const tensor of head.table.tensors) {
    values.push(decodeValues(tensor, await readSection(source, head, tensor)))
  }
  return { table: head.table, values }
}
