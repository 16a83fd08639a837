import { expect, test } from 'vitest'
import type { Contribution } from '../../src/format/contributions.ts'
import { type Circumstances, weigh } from '../../src/model/binding_costs.ts'
import type { SiteIndex } from '../../src/model/site_index.ts'

const [ROWS, COLS, MODULES] = [1536, 576, 210]

const sites = {
  of: (target: string) => [{ graph: 'model', site: {}, part: { target, rows: ROWS, cols: COLS } }],
} as unknown as SiteIndex

function contributions(kind: 'terms' | 'lowRank' | 'scale'): Contribution[] {
  return Array.from({ length: MODULES }, (_, i) => {
    return { kind, target: `${i}`, terms: 2, rank: 8, over: 'rows' } as unknown as Contribution
  })
}

const usual: Circumstances = {
  software: false,
  passesPerSwitch: 32,
  copyBudget: 256e6,
  copyBytesOf: () => 0,
}
const chosen = (kind: 'terms' | 'lowRank' | 'scale', here: Partial<Circumstances> = {}) =>
  weigh(contributions(kind), sites, { ...usual, ...here }).binding

test('terms are merged on a GPU and on a CPU that plays GPU; pairs lie beside the weights of the latter', () => {
  expect(chosen('terms')).toBe('merge')
  expect(chosen('lowRank')).toBe('merge')
  expect(chosen('terms', { software: true })).toBe('merge')
  expect(chosen('lowRank', { software: true })).toBe('input')
})

test('who switches seldom merges what lies beside the weights for others, and the other way round', () => {
  expect(chosen('lowRank', { software: true, passesPerSwitch: 5000 })).toBe('merge')
  expect(chosen('terms', { software: true, passesPerSwitch: 1 })).toBe('input')
})

test('copies of the base must fit into what experts may take', () => {
  const copyBytesOf = () => ROWS * COLS * 4
  expect(chosen('terms', { copyBytesOf })).toBe('input')
  expect(chosen('terms', { copyBytesOf, copyBudget: ROWS * COLS * 4 * MODULES })).toBe('merge')
  const { why } = weigh(contributions('terms'), sites, { ...usual, copyBytesOf })
  expect(why).toBe('a merge would keep 743 MB of the base, and 256 MB are for experts')
})

test('a choice stays where the other one costs little less, and says what was weighed', () => {
  const here = { ...usual, software: true }
  const at = (passesPerSwitch: number, before?: 'merge' | 'input') =>
    weigh(contributions('terms'), sites, { ...here, passesPerSwitch }, before)
  expect(at(1).binding).toBe('input')
  expect(at(1, 'merge').binding).toBe('merge')
  expect(at(2).binding).toBe('merge')
  expect(at(2, 'input').binding).toBe('input')
  expect(at(4, 'input').binding).toBe('merge')
  expect(at(32).why).toBe(
    'estimated 1.5 s for a switch, beside the weights 30 s for the 32 passes until the next; a merge keeps 0 MB of the base',
  )
})
