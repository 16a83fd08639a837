import { expect, test } from 'vitest'
import { kernelOptions } from '../../bench/kernels/options.ts'
import { benchOptions, chosen } from '../../e2e/bench/options.ts'

test('the demo base with its experts is the default', () => {
  const { model, experts, runs, only, adapter } = benchOptions([])
  expect(model).toMatch(/public\/models\/demo$/)
  expect(experts.length).toBeGreaterThanOrEqual(2)
  expect(experts.every((path) => path.endsWith('.trit'))).toBe(true)
  expect({ runs, only, adapter }).toEqual({ runs: 12, only: [], adapter: 'auto' })
})

test('what cannot be is refused by name', () => {
  expect(() => benchOptions(['--model', 'public/models/demo'])).toThrow('--model needs --experts')
  expect(() => benchOptions(['--runs', '0'])).toThrow('--runs: expected a whole number from 1, found 0')
  expect(() => benchOptions(['--experts', 'no/such.trit'])).toThrow('--experts: there is no no/such.trit')
  expect(() => benchOptions(['--experts', 'public/experts/css.trit'])).toThrow('expected two or more')
  expect(() => benchOptions(['--demo-model', 'no/where'])).toThrow('--demo-model: there is no no/where')
  expect(() => benchOptions(['--adapter', 'both'])).toThrow('expected auto or software, found both')
})

test('cases are chosen by a part of their name, by their group, or by a glob', () => {
  const wanted = (...only: string[]) => chosen(only, 'switching', 'base → blend of 2: apply')
  expect(wanted()).toBe(true)
  expect(wanted('blend')).toBe(true)
  expect(wanted('switching')).toBe(true)
  expect(wanted('switch')).toBe(false)
  expect(wanted('base*apply')).toBe(true)
  expect(wanted('*blend')).toBe(false)
  expect(wanted('sw*')).toBe(true)
  expect(wanted('(blend|x)')).toBe(false)
  expect(wanted('loading', 'blend of ?: apply')).toBe(false)
  expect(wanted('loading', '*blend of ?: apply')).toBe(true)
})

test('kernels are timed as the command line says', () => {
  expect(kernelOptions(['-h'], true)).toBeUndefined()
  expect(kernelOptions(['--density', '0.1,0.5', '--dtype', 'float16', '--gpu'], true)).toEqual({
    bench: {
      weights: 2 ** 24,
      densities: [0.1, 0.5],
      dtypes: ['float16'],
      layouts: ['rows', 'transposed'],
      rounds: 5,
    },
    json: undefined,
    gpu: true,
  })
  expect(() => kernelOptions(['--gpu'], false)).toThrow(/gpu/)
  for (const wrong of [
    ['--density', '5'],
    ['--dtype', 'f16'],
    ['--rounds', '0'],
    ['--weights', 'many'],
  ])
    expect(() => kernelOptions(wrong, true)).toThrow(wrong[0])
})
