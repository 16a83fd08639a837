import { memorySpool, parseHead, type TritHead, TritWriter } from '../../src/format/index.ts'

export interface TritFile {
  bytes: Uint8Array<ArrayBuffer>
  head: TritHead
  payload: Uint8Array<ArrayBuffer>
}

/** A file of dense tensors `t0`, `t1`, … with pseudo-random payload. */
export async function tritFile(
  options: {
    tensors?: number
    weights?: number
    seed?: number
    kind?: 'expert' | 'base'
    chunkLog2?: number
  } = {},
): Promise<TritFile> {
  const { tensors = 3, weights = 30_000, seed = 1, kind = 'expert', chunkLog2 } = options
  const spool = memorySpool()
  const writer = new TritWriter(spool, { chunkLog2 })
  let state = seed
  for (let i = 0; i < tensors; i++) {
    const values = new Uint32Array(weights)
    for (let j = 0; j < weights; j++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      values[j] = state
    }
    const name = `t${i}`
    await writer.add(
      { name, shape: [weights], role: 'delta', target: name, codec: 'dense', dtype: 'f32' },
      values,
    )
  }
  const head = await writer.finish({
    kind,
    method: 'full',
    base: { name: 'some base' },
    compression: {},
    sources: [],
    label: 'Test',
    ...(kind === 'base' ? { bindings: { graphs: [] } } : {}),
  })
  const bytes = spool.join(head)
  return { bytes, head: await parseHead(bytes, 'test'), payload: bytes.slice(head.length) }
}
