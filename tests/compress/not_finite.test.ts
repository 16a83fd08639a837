import { expect, test } from 'vitest'
import { decodeTensor } from '../../src/compress/decode.ts'
import { verifyFile } from '../../src/compress/verify.ts'
import { checkFinite } from '../../src/format/finite.ts'
import { readHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { buildFile, PLAIN_TABLE } from '../format/samples.ts'

/** Three values, then 77 of which number 70 is `value`. */
async function expert(value: number) {
  const values = Float32Array.from({ length: 77 }, (_, i) => (i === 70 ? value : i))
  const tensors = [
    { name: 'first', shape: [3], values: Float32Array.of(1, 2, 3) },
    { name: 'norm', shape: [77], values },
  ]
  const bytes = await buildFile(tensors, PLAIN_TABLE)
  const source = memorySource(bytes, 'x.trit')
  const head = await readHead(source)
  return { source, head, payload: bytes.slice(head.headBytes) as Uint8Array<ArrayBuffer> }
}

test.each([Number.NaN, Infinity, -Infinity])(
  '%s in a dense section is refused wherever it is read',
  async (value) => {
    const { source, head, payload } = await expert(value)
    const refusal = { tag: 'format', message: expect.stringMatching(/norm is NaN or infinite at index 70/) }
    await expect(verifyFile(source, head)).rejects.toMatchObject(refusal)
    await expect(decodeTensor(source, head, head.table.tensors[1])).rejects.toMatchObject(refusal)
    // As the engine asks, piece by piece.
    const at = head.table.tensors[1].offset + 64
    expect(() => checkFinite(head.table, at, payload.slice(at), 'x.trit')).toThrow(/index 70/)
    checkFinite(head.table, 0, payload.slice(0, 64), 'x.trit')
  },
)

test('the largest values there are pass', async () => {
  const { source, head } = await expert(65504)
  await verifyFile(source, head)
})
