import { expect, test } from 'vitest'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { sweep } from '../../src/compress/sweep.ts'
import { memorySpool } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { heavyTailed, opened, safetensors, zeros } from './checkpoints.ts'

test('each point is the file that compress makes, with its error and cosine', async () => {
  const finetuned = {
    a: { shape: [90, 70], values: heavyTailed(6300, 1) },
    b: { shape: [200], values: heavyTailed(200, 2) },
    norm: { shape: [64], values: heavyTailed(64, 3, 1) },
  }
  const base = safetensors({ a: zeros([90, 70]), b: zeros([200]), norm: zeros([64]) })
  const task = await fullTaskVector(
    await openCheckpoint(memorySource(base)),
    await openCheckpoint(memorySource(safetensors(finetuned))),
  )
  for (const rule of [
    { scale: 'mean', dense: ['norm'], denseDtype: 'f32' },
    { rule: 'published' },
  ] as const) {
    let payload = memorySpool()
    const spoolFor = () => {
      payload = memorySpool()
      return payload
    }
    for await (const points of sweep(
      task,
      rule,
      { densities: [0.1, 0.5], alphas: [0.7, 1, 3] },
      { spoolFor },
    )) {
      for (const { density, alpha, bytes, error, cosine, head } of points) {
        const file = payload.join(head)
        const spool = memorySpool()
        const report = await compressTaskVector(task, { ...rule, density, alpha }, { spool })
        expect(file).toEqual(spool.join(report.head))
        expect(bytes).toBe(file.length)
        const { decoded } = await opened(file)
        let difference = 0
        let product = 0
        let stored = 0
        let squares = 0
        for (const [name, { values }] of Object.entries(finetuned)) {
          for (const [i, tau] of values.entries()) {
            const value = decoded.get(name)![i]
            difference += (value - tau) ** 2
            product += value * tau
            stored += value ** 2
            squares += tau ** 2
          }
        }
        expect(error).toBeCloseTo(Math.sqrt(difference / squares), 6)
        expect(cosine).toBeCloseTo(product / Math.sqrt(stored * squares), 6)
      }
    }
  }
})
