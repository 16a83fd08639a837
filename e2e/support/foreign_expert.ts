import { memorySpool, readHead, readSection, TritWriter } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'

/**
 * The same expert as if it had been made for another base: same names and shapes, other weights in its sketch,
 * and no fingerprint to tell it by.
 */
export async function foreignExpert(file: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const source = memorySource(file, 'expert')
  const head = await readHead(source)
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  for (const tensor of head.table.tensors) await writer.add(tensor, await readSection(source, head, tensor))
  const { tensors: _, base, ...table } = head.table
  const SIGN = 0x8000
  const sketch = base.sketch?.map((value) => value ^ SIGN)
  return spool.join(await writer.finish({ ...table, base: { name: 'another base', sketch } }))
}
