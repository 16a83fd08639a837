import { describe, expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import { packTernary } from '../../src/compress/ternary_input.ts'
import { memorySpool } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { opened, safetensors, type Values } from './checkpoints.ts'

async function pack(tensors: Record<string, Values>) {
  const spool = memorySpool()
  const signs = await openCheckpoint(memorySource(safetensors(tensors), 'signs'))
  const report = await packTernary(signs, undefined, {}, { spool })
  return { report, ...(await opened(spool.join(report.head))) }
}

describe('packing signs', () => {
  test.each(['bard-0.02', 'css-0.05'])('%s is packed exactly', async (name) => {
    const signs = await openCheckpoint(await openFile(`../shared/demo-model/distilled/${name}.safetensors`))
    const base = await openCheckpoint(openFolder('../shared/demo-model/base'))
    const spool = memorySpool()
    const { head } = await packTernary(signs, base, {}, { spool })
    const { parsed, decoded } = await opened(spool.join(head))
    expect(parsed.table.compression.density).toBe(Number(name.split('-')[1]))
    expect(parsed.table.base.sketch).toHaveLength(parsed.table.tensors.length * 8)
    const weights = [...signs.tensors.values()].filter((tensor) => !tensor.name.endsWith('.scale'))
    expect(parsed.table.tensors).toHaveLength(weights.length)
    for (const tensor of weights) {
      const scale = signs.tensors.get(`${tensor.name}.scale`)
      const factor = scale === undefined ? 1 : (await readFloats(scale))[0]
      const expected = (await readFloats(tensor)).map((value) => (value === 0 ? 0 : value * factor))
      const found = decoded.get(tensor.name)!
      expect([tensor.name, expected.findIndex((value, i) => value !== found[i])]).toEqual([tensor.name, -1])
    }
  })

  test('dense deltas keep their dtype, and tensors of zeros are left out', async () => {
    const { parsed, decoded, report } = await pack({
      w: { shape: [2, 3], dtype: 'I8', values: [0, 1, -1, 0, 0, 1] },
      'w.scale': { shape: [], values: [0.25] },
      none: { shape: [4], dtype: 'I8', values: [0, 0, 0, 0] },
      'none.scale': { shape: [1], values: [1] },
      half: { shape: [2], dtype: 'F16', values: [0.5, -2] },
      single: { shape: [2], values: [0.1, 3] },
    })
    expect(report.unmoved).toEqual(['none'])
    expect(
      parsed.table.tensors.map((tensor) => (tensor.codec === 'dense' ? tensor.dtype : tensor.codec)),
    ).toEqual(['ternary', 'f16', 'f32'])
    expect(Array.from(decoded.get('w')!)).toEqual([0, 0.25, -0.25, 0, 0, 0.25])
    expect(Array.from(decoded.get('single')!)).toEqual([Math.fround(0.1), 3])
  })

  const scale = { 'w.scale': { shape: [], values: [1] } }
  test.each<[string, Record<string, Values>, RegExp]>([
    [
      'a sign of 2',
      { w: { shape: [4], dtype: 'I8', values: [0, 1, 2, -1] }, ...scale },
      /found 2 at index 2/,
    ],
    ['no scale', { w: { shape: [1], dtype: 'I8', values: [1] } }, /w\.scale/],
    [
      'a scale for each entry',
      { w: { shape: [2], dtype: 'I8', values: [1, 1] }, 'w.scale': { shape: [2], values: [1, 1] } },
      /one F32 value/,
    ],
    [
      'an infinite scale',
      { w: { shape: [1], dtype: 'I8', values: [1] }, 'w.scale': { shape: [], values: [Infinity] } },
      /Infinity/,
    ],
    ['NaN in a dense delta', { d: { shape: [2], values: [0, Number.NaN] } }, /NaN at index 1/],
    ['nothing', { w: { shape: [1], dtype: 'I8', values: [0] }, ...scale }, /no sign tensor/],
  ])('refuses %s', async (_, tensors, message) => {
    await expect(pack(tensors)).rejects.toMatchObject({ tag: 'input', message })
  })
})
