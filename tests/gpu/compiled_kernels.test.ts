import { beforeEach, describe, expect, test } from 'vitest'
import { type ShapedWorld, shapedWorld } from '../../bench/kernels/shapes.ts'
import type { ResidentExpert, SetEntry } from '../../src/gpu/index.ts'
import { type RecordingGpu, recordingGpu } from './recording_device.ts'

/** A matrix, which is ternary in experts, and a vector, which is dense. */
const SHAPES = [
  { name: 'model.layers.0.mlp.up_proj.weight', shape: [64, 64] },
  { name: 'model.norm.weight', shape: [64] },
]
const MERGES = ['apply', 'revert', 'fused', 'pair', 'blend', 'dense', 'steps']

let recording: RecordingGpu
let world: ShapedWorld
beforeEach(async () => {
  recording = recordingGpu(8)
  world = await shapedWorld(recording.gpu, SHAPES, { dtype: 'float32', density: 0.05, experts: 3 })
})

const merges = () => recording.compiled.filter((name) => MERGES.includes(name)).sort()
const entry = (expert: ResidentExpert): SetEntry => ({ expert, weight: 1 })

describe('kernels of merges', () => {
  test('a base has none before it has experts, an expert those that it needs alone', async () => {
    expect(merges()).toEqual([])
    await world.switcher.prepare(world.residents[0].table)
    expect(merges()).toEqual(['apply', 'dense', 'fused', 'revert'])
  })

  test('no switch compiles what was prepared, whatever is current', async () => {
    const { switcher, residents } = world
    for (const { table } of residents) await switcher.prepare(table)
    const [a, b, c] = residents.map(entry)
    for (const set of [[a], [a, b], [c], [a, b, c], [b], [b, c], []]) {
      await switcher.prepareSet(set)
      expect(switcher.prepareSet(set)).toBeUndefined()
      const before = merges()
      await switcher.apply(set)
      expect(merges()).toEqual(before)
    }
    expect(merges()).toEqual(['apply', 'blend', 'dense', 'fused', 'pair', 'revert'])
  })
})
