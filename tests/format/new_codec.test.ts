import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { decodeTensor } from '../../src/compress/decode.ts'
import { inspectHead } from '../../src/compress/inspect.ts'
import { mergeExperts } from '../../src/compress/merge.ts'
import { verifyFile } from '../../src/compress/verify.ts'
import { registerCodec } from '../../src/format/codecs/index.ts'
import { memorySpool, readHead, type TritTable, TritWriter, tableFromJson } from '../../src/format/index.ts'
import { ReferenceWeights } from '../../src/reference/weights.ts'
import { memorySource } from '../../src/source/memory.ts'
import { rowLevels, rowLevelsOf } from './row_levels.ts'
import { addSample, PLAIN_TABLE, randomEntries, tagThrownBy } from './samples.ts'

// What src/format/codecs/index.ts would have as one line. Nothing else in src knows the codec.
registerCodec(rowLevels)

const SHAPE = [6, 5]
const delta = rowLevelsOf('w', SHAPE)

async function open(
  table: Partial<TritTable> = {},
  { tensor, section }: Pick<typeof delta, 'tensor' | 'section'> = delta,
) {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  await addSample(writer, { name: 'v', shape: [40], entries: randomEntries(40, 0.3, 2), scale: 0.5 })
  await writer.add(tensor, section)
  const source = memorySource(spool.join(await writer.finish({ ...PLAIN_TABLE, ...table })))
  return { source, head: await readHead(source) }
}

test('a file holds it: written, read, verified, inspected, decoded', async () => {
  const { source, head } = await open()
  const [, tensor] = head.table.tensors
  expect(tensor).toEqual({ ...delta.tensor, bytes: 24 + 32, offset: head.table.tensors[0].bytes })
  await verifyFile(source, head)
  expect(inspectHead(head, 'x').tensors[1]).toMatchObject({
    codec: 'row-levels',
    kept: 30,
    density: 1,
    scale: null,
    bits: 8,
    bytes: 56,
    entropyBytes: 56,
  })
  expect(await decodeTensor(source, head, tensor)).toEqual(delta.values)
})

test('its fields and its section are checked, and errors name the tensor', async () => {
  const table = (change: object) =>
    JSON.stringify({
      kind: 'expert',
      tensors: [{ name: 'w', shape: SHAPE, codec: 'row-levels', levels: 7, bytes: 56, ...change }],
    })
  expect(tableFromJson(table({}), 56).tensors).toHaveLength(1)
  expect(() => tableFromJson(table({ levels: 0 }), 56)).toThrow('tensors[0].levels')
  expect(() => tableFromJson(table({ bytes: 60 }), 60)).toThrow('56 bytes of levels')
  expect(() => tableFromJson(table({ codec: 'row-level' }), 56)).toThrow('tensors[0].codec')
  const section = delta.section.slice()
  section[24 + 3] = 100
  const { source, head } = await open({}, { ...delta, section })
  await expect(verifyFile(source, head)).rejects.toMatchObject({
    tag: 'format',
    message: 'w: Cannot read level 3: expected at most 7, found 100',
    fields: { tensor: 'w', codec: 'row-levels' },
  })
})

test('experts that hold it are merged', async () => {
  const other = rowLevelsOf('w', SHAPE, 3)
  const spool = memorySpool()
  const { head } = await mergeExperts(
    [await open(), await open({}, other)],
    { method: 'task-arithmetic', dense: true, denseDtype: 'f32' },
    { spool },
  )
  const source = memorySource(spool.join(head))
  const merged = await readHead(source)
  const tensor = merged.table.tensors.find(({ name }) => name === 'w')!
  expect(await decodeTensor(source, merged, tensor)).toEqual(
    delta.values.map((value, i) => value + other.values[i]),
  )
})

test('it is added to a base that holds it too', async () => {
  const own = rowLevelsOf('w', SHAPE, 5)
  const part = { tensor: 'w', offset: 0, rowStride: 5, colStride: 1 }
  const inputs = [{ name: 'w', dtype: 'float32', dims: SHAPE, parts: [part] }] as const
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  await writer.add(own.tensor, own.section)
  const bindings = { graphs: [{ file: 'onnx/model.onnx', inputs }] }
  const base = spool.join(await writer.finish({ ...PLAIN_TABLE, kind: 'base', bindings }))
  const weights = await ReferenceWeights.open(memorySource(base))
  const changed = await weights.patched((await open()).source, 2, new Set([1]))
  expect(weights.feeds('onnx/model.onnx', changed).get('w')?.data).toEqual(
    own.values.map((value, i) => value + 2 * delta.values[i]),
  )
})

test('without the line, a reader refuses it', async () => {
  const json = JSON.stringify({
    kind: 'expert',
    tensors: [{ name: 'w', shape: SHAPE, codec: 'column-levels', levels: 7, bytes: 56 }],
  })
  expect(await tagThrownBy(() => tableFromJson(json, 56))).toBe('format')
})

test('no file of src decides by the name of a codec', () => {
  const src = new URL('../../src/', import.meta.url)
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  expect(files.length).toBeGreaterThan(100)
  expect(files.filter((file) => /\bcodec [!=]== '/.test(readFileSync(new URL(file, src), 'utf8')))).toEqual(
    [],
  )
})
