import { expect, test } from 'vitest'
import type { HoistedInput } from '../../src/format/bindings.ts'
import { registerCodec } from '../../src/format/codecs/index.ts'
import { rowLevels, rowLevelsOf } from '../format/row_levels.ts'
import { container, denseOf, engineFor, placementOf, ternaryOf } from './fixtures.ts'
import { Random, randomEntries } from './random.ts'

registerCodec(rowLevels)

test('a codec that no kernel reads is decoded by the CPU, in a base and in an expert', async () => {
  const random = new Random(3)
  const shape = [70, 90]
  const own = rowLevelsOf('w', shape, 5)
  const delta = rowLevelsOf('w', shape, 2)
  const base = await container('base', [own, denseOf('v', [300], random.floats(300), 'f32')])
  const inputs: HoistedInput[] = [
    { name: 'in.w', dtype: 'float32', dims: shape, parts: [placementOf('w', shape, 'rows')] },
    { name: 'in.v', dtype: 'float32', dims: [300], parts: [placementOf('v', [300], 'rows')] },
  ]
  const engine = await engineFor(base, inputs)
  const { weights, switcher, experts } = engine
  const read = async () => new Float32Array(await weights.read('in.w'))
  expect(await read()).toEqual(own.values)

  // Beside another codec, and in pieces that end in the middle of sections.
  const { head, payload } = await container('expert', [
    ternaryOf('v', [300], randomEntries(300, 0.2, random), 0.5),
    delta,
  ])
  const upload = await experts.begin(head)
  for (let at = 0; at < payload.length; at += 1000) upload.write(at, payload.slice(at, at + 1000))
  const expert = await upload.finish()
  const before = await weights.checksum()
  await switcher.apply([{ expert, weight: 2 }])
  expect(await read()).toEqual(own.values.map((value, i) => value + 2 * delta.values[i]))
  await switcher.revert()
  expect(await weights.checksum()).toBe(before)
  expert.release()

  const broken = payload.slice()
  broken[head.table.tensors[1].offset + 4 * shape[0]] = 100
  const refused = await experts.begin(head)
  expect(() => refused.write(0, broken)).toThrow('w: Cannot read level 0')
  refused.cancel()
  engine.destroy()
})
