import { expect, test } from 'vitest'
import { describeSources } from '../../src/compress/provenance.ts'
import { MAX_SOURCES, memorySpool, parseHead, TritWriter } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'

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
