import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { compareExperts } from '../../src/compress/compare.ts'
import { decodePieces, decodeSparse, decodeTensor } from '../../src/compress/decode.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { verifyFile } from '../../src/compress/verify.ts'
import { PIECE_WEIGHTS } from '../../src/format/codecs/codec.ts'
import { encodeTernary, memorySpool, readHead, TritWriter } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { tritswap } from '../cli/in_process.ts'
import { buildFile, PLAIN_TABLE } from '../format/samples.ts'

/** Two files of a few hundred bytes that speak of 2³⁰ weights a tensor: one of nothing, one of three entries far apart. */
const EMPTY = { indices: new Uint32Array(), negative: new Uint8Array() }
const FAR = { indices: Uint32Array.of(5, 2 ** 24 + 7, 2 ** 30 - 1), negative: Uint8Array.of(0, 1, 0) }
const nothing = buildFile([{ name: 'w', shape: [2 ** 15, 2 ** 15], entries: EMPTY, scale: 1 }])
const wide = buildFile([{ name: 'w', shape: [64, 2 ** 24], entries: FAR, scale: 0.5 }])

async function open(file: Promise<Uint8Array<ArrayBuffer>>) {
  const source = memorySource(await file, 'bomb.trit')
  return { source, head: await readHead(source) }
}

test('a file that speaks of far more weights than it has bytes is checked and compared by its bytes', async () => {
  for (const file of [nothing, wide]) {
    const { source, head } = await open(file)
    await verifyFile(source, head)
  }
  const { total } = await compareExperts([await open(wide), await open(wide)])
  expect(total[0][1]).toMatchObject({ dot: 0.75, l1: 0, overlap: 1, signAgreement: 1 })
})

test('it is read in pieces, and as entries', async () => {
  const { source, head } = await open(wide)
  const [tensor] = head.table.tensors
  for await (const piece of decodePieces(source, head, tensor)) {
    expect(piece.length).toBe(PIECE_WEIGHTS)
    expect(Array.from(piece.subarray(4, 7))).toEqual([0, 0.5, 0])
    break
  }
  const sparse = []
  for await (const { indices, signs } of decodeSparse(source, head, tensor)) sparse.push(...indices, ...signs)
  expect(sparse).toEqual([5, 2 ** 24 + 7, 2 ** 30 - 1, 1, -1, 1])
})

test('it is not expanded whole', async () => {
  for (const file of [nothing, wide]) {
    const expert = await open(file)
    const limit = { tag: 'limit', message: expect.stringContaining('bomb.trit') }
    await expect(
      decodeTensor(expert.source, expert.head, expert.head.table.tensors[0]),
    ).rejects.toMatchObject(limit)
    const merged = mergeExperts([expert, expert], { method: 'average' }, { spool: memorySpool() })
    await expect(merged).rejects.toMatchObject(limit)
  }
})

test('tritswap decode writes no more than is in proportion, or than it is allowed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
  try {
    const [file, out] = [join(folder, 'bomb.trit'), join(folder, 'out.safetensors')]
    await writeFile(file, await wide)
    const refused = await tritswap('decode', file, '--out', out)
    expect(refused).toMatchObject({ code: 1, err: expect.stringMatching(/over the limit.*--sparse/) })
    const small = await tritswap('decode', file, '--out', out, '--max-bytes', '1e6')
    expect(small).toMatchObject({ code: 1, err: expect.stringMatching(/4294967296 bytes, over the 1000000/) })
    expect(await readdir(folder)).toEqual(['bomb.trit'])
    expect(await tritswap('decode', file, '--out', out, '--sparse')).toMatchObject({ code: 0, err: '' })
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('thousands of tensors are compared and checked one after the other', async () => {
  const shape = [2 ** 10, 2 ** 20]
  const { words, ...code } = encodeTernary(shape, EMPTY)
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  for (let i = 0; i < 5000; i++) {
    const common = { name: `w${i}`, target: `w${i}`, shape, role: 'delta' } as const
    await writer.add({ ...common, codec: 'ternary', scale: 1, ...code }, words)
  }
  const file = Promise.resolve(spool.join(await writer.finish(PLAIN_TABLE)))
  const expert = await open(file)
  await verifyFile(expert.source, expert.head)
  const { tensors } = await compareExperts([expert, await open(file)])
  expect(tensors).toHaveLength(5000)
})
