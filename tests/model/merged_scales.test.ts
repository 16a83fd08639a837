import { expect, test } from 'vitest'
import type { BoundEntry } from '../../src/model/expert_set.ts'
import { withMergedScales } from '../../src/model/merged_scales.ts'

const WEIGHT = 'layers.0.q_proj.weight'

function entry(
  tensors: { role: string; target: string }[],
  binding?: { merged: number[]; scales: number[]; mergeable?: number[] },
  weight = 1,
): BoundEntry {
  const expert = { table: { tensors: tensors.map((tensor, i) => ({ ...tensor, name: `t${i}` })) } }
  const bypass = binding?.scales.map((index) => ({
    kind: 'outputScale',
    index,
    part: { target: tensors[index].target },
  }))
  return {
    expert,
    weight,
    binding: binding && {
      merged: new Set(binding.merged),
      bypass,
      mergeable: new Set(binding.mergeable ?? binding.scales),
    },
  } as unknown as BoundEntry
}

const ia3 = (mergeable?: number[]) =>
  entry([{ role: 'ia3', target: WEIGHT }], { merged: [], scales: [0], mergeable })
const merges = (role: string, target = WEIGHT, weight = 1) =>
  entry([{ role, target }], { merged: [0], scales: [] }, weight)

const outcome = (entries: readonly BoundEntry[]) =>
  withMergedScales(entries).map(({ binding }) => [...(binding?.merged ?? [])].length)

test('a scale is merged where another expert of the set merges a delta or a pair into its weight', () => {
  for (const role of ['delta', 'loraA', 'loraB']) {
    const [scaled] = withMergedScales([ia3(), merges(role)])
    expect(scaled.binding).toMatchObject({ merged: new Set([0]), bypass: [] })
  }
  expect(outcome([ia3(), entry([{ role: 'delta', target: WEIGHT }])])).toEqual([1, 0])
})

test('it stays beside its weight where nothing is added to it', () => {
  const sets = [
    [ia3(), ia3()],
    [ia3(), merges('delta', 'layers.1.q_proj.weight')],
    [ia3(), merges('delta', WEIGHT, 0)],
    [ia3(), merges('ia3')],
  ]
  for (const set of sets) expect(withMergedScales(set)[0]).toBe(set[0])
})

test('a scale that cannot be merged is refused by name, with the way out', () => {
  expect(() => withMergedScales([ia3([]), merges('delta')])).toThrowError(
    expect.objectContaining({
      tag: 'unsupported',
      message: expect.stringMatching(new RegExp(`t0.*${WEIGHT}.*binding input`)),
    }),
  )
})
