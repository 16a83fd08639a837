import { beforeAll, describe, expect, test } from 'vitest'
import {
  buildHead,
  chunkLength,
  decodeTernary,
  decodeValues,
  MAX_CHUNKS,
  MAX_PAYLOAD_BYTES,
  MAX_TABLE_BYTES,
  memorySpool,
  PREFIX_BYTES,
  parseHead,
  readHead,
  readSection,
  type TritHead,
  TritWriter,
  ternarySection,
  verifyChunk,
} from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { addSample, PLAIN_TABLE, randomEntries, smallFile, sorted, tagThrownBy } from './samples.ts'

/** Reads all of a file the way its users do, and returns what it holds. */
async function readAll(source: ByteSource, rootHash?: string) {
  const head = await readHead(source, { rootHash })
  const tensors = []
  for (const tensor of head.table.tensors) {
    const section = await readSection(source, head, tensor)
    tensors.push(
      tensor.codec === 'ternary'
        ? decodeTernary(tensor.shape, ternarySection(tensor, section))
        : decodeValues(tensor, section),
    )
  }
  return { head, tensors }
}

let file: Uint8Array<ArrayBuffer>
let head: TritHead
beforeAll(async () => {
  file = await smallFile()
  head = await readHead(memorySource(file))
})

describe('a small file', () => {
  test('reads back', async () => {
    const { head, tensors } = await readAll(memorySource(file))
    expect(head.table.label).toBe('Small')
    expect(head.table.compression).toEqual({ density: 0.05 })
    expect(head.table.tensors.map(({ name, codec }) => [name, codec])).toEqual([
      ['layers.0.weight', 'ternary'],
      ['layers.0.bias', 'dense'],
      ['layers.1.weight', 'ternary'],
    ])
    expect(head.table.tensors[0]).toMatchObject({ scale: Math.fround(0.0125) })
    expect(tensors[1]).toEqual(Float32Array.of(0.5, -1, 2 ** -20))
    expect(sorted(tensors[2] as ReturnType<typeof decodeTernary>)).toEqual(sorted(randomEntries(35, 0.3, 4)))
  })

  test('is refused under another root hash', async () => {
    expect(await tagThrownBy(() => readAll(memorySource(file), head.rootHash))).toBe('none')
    expect(await tagThrownBy(() => readAll(memorySource(file), '0'.repeat(64)))).toBe('integrity')
  })

  test('cut anywhere is refused', async () => {
    for (let length = 0; length < file.length; length++) {
      const source = memorySource(file.subarray(0, length))
      expect(['format', 'limit']).toContain(await tagThrownBy(() => readAll(source)))
    }
  })

  test('with any byte flipped is refused: by the root hash in the head, by a chunk hash behind it', async () => {
    for (let at = 0; at < file.length; at++) {
      const changed = file.slice()
      changed[at] ^= 1 << (at % 8)
      const tag = await tagThrownBy(() => readAll(memorySource(changed), head.rootHash))
      if (at >= head.headBytes) expect(tag).toBe('integrity')
      else expect(['integrity', 'format', 'limit']).toContain(tag)
    }
  })

  test('with any byte of the head flipped and no root hash to check: an error of ours, or a file that reads', async () => {
    for (let at = 0; at < head.headBytes; at++) {
      const changed = file.slice()
      changed[at] ^= 1 << (at % 8)
      expect(['integrity', 'format', 'limit', 'none']).toContain(
        await tagThrownBy(() => readAll(memorySource(changed))),
      )
    }
  })
})

describe('the prefix', () => {
  const cases: [string, number, number, 'format' | 'limit'][] = [
    ['magic', 0, 0x46554747, 'format'],
    ['version 2', 4, 2 | (16 << 16), 'format'],
    ['chunks of 2^15', 4, 1 | (15 << 16), 'format'],
    ['chunks of 2^21', 4, 1 | (21 << 16), 'format'],
    ['a table too long', 8, MAX_TABLE_BYTES + 1, 'limit'],
    ['a table that inflates to too much', 12, MAX_TABLE_BYTES + 1, 'limit'],
    ['a table that inflates to more than 128 times itself', 12, 2 ** 20 + 1, 'limit'],
    ['too much payload', 20, MAX_PAYLOAD_BYTES / 2 ** 32, 'limit'],
    ['payload without chunks', 16, 2 ** 31, 'format'],
    ['too many chunks', 24, MAX_CHUNKS + 1, 'limit'],
    ['chunks without payload', 24, 2, 'format'],
    ['a reserved field in use', 28, 1, 'format'],
    ['a table that inflates to less', 12, 2000, 'format'],
    ['a table that inflates to more', 12, 200, 'format'],
    ['a table that is cut', 8, 100, 'format'],
  ]
  test.each(cases)('%s is refused', async (_, offset, value, tag) => {
    const changed = file.slice()
    new DataView(changed.buffer).setUint32(offset, value, true)
    expect(await tagThrownBy(() => readHead(memorySource(changed)))).toBe(tag)
  })

  test('a head that promises gigabytes costs nothing when they are not there', async () => {
    const prefix = file.slice(0, PREFIX_BYTES)
    const view = new DataView(prefix.buffer)
    view.setUint32(8, MAX_TABLE_BYTES, true)
    view.setUint32(16, 0, true)
    view.setUint32(20, 16, true)
    view.setUint32(24, MAX_CHUNKS, true)
    const before = process.memoryUsage().arrayBuffers
    expect(await tagThrownBy(() => readHead(memorySource(prefix)))).toBe('format')
    expect(await tagThrownBy(() => parseHead(prefix, 'prefix'))).toBe('format')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })

  test('a deflate bomb stops at the size that the prefix declares', async () => {
    const { deflateSync } = await import('fflate')
    const bomb = deflateSync(new Uint8Array(64 << 20))
    const bytes = new Uint8Array(PREFIX_BYTES + bomb.length)
    bytes.set(file.subarray(0, PREFIX_BYTES))
    const view = new DataView(bytes.buffer)
    for (const [offset, value] of [
      [8, bomb.length],
      [12, 1 << 20],
      [16, 0],
      [20, 0],
      [24, 0],
    ])
      view.setUint32(offset, value, true)
    bytes.set(bomb, PREFIX_BYTES)
    expect(await tagThrownBy(() => readHead(memorySource(bytes)))).toBe('format')
  })
})

describe('chunks', () => {
  /** Payload of a bit over two chunks in sections that do not end where chunks do. */
  async function threeChunks() {
    const spool = memorySpool()
    const writer = new TritWriter(spool)
    const values = (length: number, seed: number) => Float32Array.from({ length }, (_, i) => i * seed)
    const samples = [
      { name: 'a', shape: [10_000], values: values(10_000, 1) },
      { name: 'b', shape: [20_001], values: values(20_001, 2) },
      { name: 'c', shape: [5000], values: values(5000, 3) },
    ]
    for (const sample of samples) await addSample(writer, sample)
    return { file: spool.join(await writer.finish(PLAIN_TABLE)), samples }
  }

  test('sections come out of the chunks they lie in, and of no others', async () => {
    const { file, samples } = await threeChunks()
    const inner = memorySource(file)
    const reads: number[] = []
    const source: ByteSource = {
      ...inner,
      read(offset, length) {
        reads.push(offset)
        return inner.read(offset, length)
      },
    }
    const head = await readHead(source)
    expect(head.chunks).toBe(3)
    expect([0, 1, 2].map((index) => chunkLength(head, index))).toEqual([
      65_536,
      65_536,
      35_001 * 4 - 2 * 65_536,
    ])
    const chunksRead = async (index: number) => {
      reads.length = 0
      const tensor = head.table.tensors[index]
      expect(decodeValues(tensor, await readSection(source, head, tensor))).toEqual(samples[index].values)
      return reads.map((offset) => (offset - head.headBytes) / head.chunkBytes).sort()
    }
    expect(await chunksRead(0)).toEqual([0])
    expect(await chunksRead(1)).toEqual([0, 1])
    expect(await chunksRead(2)).toEqual([1, 2])
  })

  test('each is verified alone, and one that changed or moved is named', async () => {
    const { file } = await threeChunks()
    const head = await readHead(memorySource(file))
    const chunk = (index: number) => {
      const start = head.headBytes + index * head.chunkBytes
      return file.slice(start, start + chunkLength(head, index))
    }
    for (let index = 0; index < 3; index++) {
      await verifyChunk(head, index, chunk(index), 'file')
      const changed = chunk(index)
      changed[changed.length - 1] ^= 0x80
      await expect(verifyChunk(head, index, changed, 'file')).rejects.toMatchObject({
        tag: 'integrity',
        fields: { chunk: index },
      })
      await expect(verifyChunk(head, index, chunk(index).subarray(1), 'file')).rejects.toMatchObject({
        tag: 'integrity',
      })
    }
    expect(await tagThrownBy(() => verifyChunk(head, 0, chunk(1), 'file'))).toBe('integrity')
    expect(await tagThrownBy(() => verifyChunk(head, 3, chunk(0), 'file'))).toBe('integrity')
  })

  test('a section that is not there costs no memory', async () => {
    const weights = 2 ** 28
    const head = buildHead(
      {
        ...PLAIN_TABLE,
        tensors: [
          {
            name: 'w',
            shape: [weights],
            role: 'delta',
            target: 'w',
            codec: 'dense',
            dtype: 'f32',
            bytes: weights * 4,
          },
        ],
      },
      16,
      weights * 4,
      new Uint8Array((weights * 4) / 2 ** 11),
    )
    const source = memorySource(head)
    const parsed = await readHead(source)
    const before = process.memoryUsage().arrayBuffers
    expect(await tagThrownBy(() => readSection(source, parsed, parsed.table.tensors[0]))).toBe('format')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })
})

describe('sections that are not as long as the table says', () => {
  test('are refused before they are decoded', async () => {
    const { table } = head
    for (const tensor of table.tensors) {
      const short = new Uint8Array(tensor.bytes - 4)
      expect(
        await tagThrownBy(() =>
          tensor.codec === 'ternary' ? ternarySection(tensor, short) : decodeValues(tensor, short),
        ),
      ).toBe('format')
    }
  })
})
