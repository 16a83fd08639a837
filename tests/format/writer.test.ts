import { describe, expect, test } from 'vitest'
import {
  encodeTernary,
  MAX_NAME_LENGTH,
  MAX_TEXT_LENGTH,
  memorySpool,
  type NewTensorWithoutBytes,
  readHead,
  TritWriter,
} from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { addSample, buildFile, PLAIN_TABLE, randomEntries, randomFrom, tagThrownBy } from './samples.ts'

const DENSE = { role: 'delta', codec: 'dense', dtype: 'f32' } as const
const vector = (name: string, length: number): NewTensorWithoutBytes => ({
  ...DENSE,
  name,
  target: name,
  shape: [length],
})

describe('TritWriter', () => {
  test('pieces of any size make the same file as whole sections', async () => {
    const random = randomFrom(8)
    const values = Float32Array.from({ length: 40_000 }, random)
    const whole = await buildFile([
      { name: 'a', shape: [40_000], values },
      { name: 'b', shape: [9], values: values.slice(0, 9) },
    ])
    const spool = memorySpool()
    const writer = new TritWriter(spool)
    writer.begin(vector('a', 40_000), values.byteLength)
    const bytes = new Uint8Array(values.buffer)
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, Math.floor(random() * 9000))
      await writer.append(bytes.subarray(at, at + length))
      at += length
    }
    await writer.end()
    await addSample(writer, { name: 'b', shape: [9], values: values.slice(0, 9) })
    expect(spool.join(await writer.finish(PLAIN_TABLE))).toEqual(whole)
  })

  test('sections of odd length are padded to words', async () => {
    const spool = memorySpool()
    const writer = new TritWriter(spool)
    const halves = { role: 'delta', codec: 'dense', dtype: 'f16' } as const
    await writer.add({ ...halves, name: 'a', target: 'a', shape: [3] }, Uint16Array.of(1, 2, 3))
    await writer.add({ ...halves, name: 'b', target: 'b', shape: [1] }, Uint16Array.of(4))
    const { table, payloadBytes } = await readHead(memorySource(spool.join(await writer.finish(PLAIN_TABLE))))
    expect(payloadBytes).toBe(12)
    expect(table.tensors.map(({ offset, bytes }) => [offset, bytes])).toEqual([
      [0, 8],
      [8, 4],
    ])
  })

  test('misuse is refused', async () => {
    const writer = () => new TritWriter(memorySpool())
    const opened = () => {
      const open = writer()
      open.begin(vector('a', 2), 8)
      return open
    }
    expect(await tagThrownBy(() => opened().begin(vector('b', 2), 8))).toBe('input')
    expect(await tagThrownBy(() => opened().end())).toBe('input')
    expect(await tagThrownBy(() => opened().append(new Uint8Array(9)))).toBe('input')
    expect(await tagThrownBy(() => opened().finish(PLAIN_TABLE))).toBe('input')
    expect(await tagThrownBy(() => writer().append(new Uint8Array(1)))).toBe('input')
    expect(await tagThrownBy(() => writer().end())).toBe('input')
  })

  test('a file that no reader would take is not written', async () => {
    const finish = async (tensors: NewTensorWithoutBytes[], table: object = {}) => {
      const writer = new TritWriter(memorySpool())
      for (const tensor of tensors) await writer.add(tensor, new Uint8Array(8))
      return writer.finish({ ...PLAIN_TABLE, ...table })
    }
    expect(await tagThrownBy(() => finish([vector('a', 2)]))).toBe('none')
    expect(await tagThrownBy(() => finish([]))).toBe('input')
    expect(await tagThrownBy(() => finish([vector('a', 2), vector('a', 2)]))).toBe('input')
    expect(await tagThrownBy(() => finish([vector('a', 3)]))).toBe('input')
    expect(await tagThrownBy(() => finish([vector('n'.repeat(MAX_NAME_LENGTH + 1), 2)]))).toBe('input')
    expect(
      await tagThrownBy(() => finish([vector('a', 2)], { label: 'x'.repeat(MAX_TEXT_LENGTH + 1) })),
    ).toBe('input')
    expect(await tagThrownBy(() => finish([vector('a', 2)], { compression: { alpha: Number.NaN } }))).toBe(
      'input',
    )
    const { words, ...code } = encodeTernary([64], randomEntries(64, 0.5, 1))
    const writer = new TritWriter(memorySpool())
    await writer.add(
      { name: 'a', target: 'a', shape: [64], role: 'delta', codec: 'ternary', scale: 1 / 0, ...code },
      words,
    )
    expect(await tagThrownBy(() => writer.finish(PLAIN_TABLE))).toBe('input')
  })
})
