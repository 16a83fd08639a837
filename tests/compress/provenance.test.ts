import { expect, test } from 'vitest'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { describeSources, withSketch } from '../../src/compress/provenance.ts'
import { MAX_SOURCES, memorySpool, parseHead, TritWriter } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { safetensors } from './checkpoints.ts'

test('an expert names all files of a sharded checkpoint, and no more than a reader takes', async () => {
  const shards = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      ...memorySource(new ArrayBuffer(0)),
      name: `base/${i}.safetensors`,
    }))
  const nameOnly = async () => undefined
  const sources = await describeSources(shards(400), nameOnly)
  expect(sources).toHaveLength(400)
  expect(sources.at(-1)).toEqual({ name: '399.safetensors', sha256: undefined })

  const most = await describeSources(shards(MAX_SOURCES + 1), nameOnly)
  expect(most).toHaveLength(MAX_SOURCES)
  const spool = memorySpool()
  const table = { kind: 'expert', method: 'full', base: {}, compression: {}, sources: most } as const
  const writer = new TritWriter(spool)
  const tensor = { name: 'w', shape: [1], role: 'delta', target: 'w', codec: 'dense', dtype: 'f32' } as const
  await writer.add(tensor, new Uint32Array(1))
  const file = spool.join(await writer.finish({ ...table, sources: most }))
  expect((await parseHead(file, 'an expert')).table.sources).toHaveLength(MAX_SOURCES)
})

test('a base that is the dequantized copy of one of four bits is said to be', async () => {
  const shape = [16, 64]
  const values = Float32Array.from({ length: 1024 }, (_, i) => 0.04 * Math.sin(i * 12.9898) * Math.sin(i))
  const rounded = values.map((value, i) => {
    const block = values.subarray(i - (i % 32), i - (i % 32) + 32)
    const step = Math.max(...block.map(Math.abs)) / 7
    return Math.round(value / step) * step
  })
  const recordOf = async (weights: Float32Array) => {
    const { tensors } = await openCheckpoint(
      memorySource(
        safetensors({ w: { shape, values: weights }, norm: { shape: [4], values: [1, 1, 1, 1] } }).buffer,
      ),
    )
    return withSketch({}, tensors, [{ target: 'w' }, { target: 'norm' }])
  }
  expect((await recordOf(rounded)).dtype).toBe('q4')
  expect((await recordOf(values)).dtype).toBeUndefined()
  expect((await recordOf(values.fill(0))).dtype).toBeUndefined()
})
