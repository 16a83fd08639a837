import { expect, test } from 'vitest'
import { packError, TritswapError, unpackError } from '../src/errors.ts'

/** Like a `GPUError`: no `Error`, and the platform does not clone it. */
class Unclonable {
  readonly message = 'out of memory'
  readonly call = () => {}
}

test.each([
  ['an object of the platform', new Unclonable(), 'out of memory'],
  ['a function', Math.max, String(Math.max)],
  ['a symbol', Symbol('why'), 'Symbol(why)'],
  ['data', { why: [1, 'x'] }, { why: [1, 'x'] }],
  ['nothing', null, null],
])('an error crosses threads with %s as its cause and in its fields', (_, cause, wanted) => {
  const error = new TritswapError('memory', 'Cannot go on', { fields: { cause }, cause })
  const found = unpackError(structuredClone(packError(error)))
  expect(found).toMatchObject({ name: 'TritswapError', tag: 'memory', message: 'Cannot go on' })
  expect(found).toMatchObject({ fields: { cause: wanted }, cause: wanted })
})

test('causes that are errors stay errors', () => {
  const cause = new Error('inner', { cause: new Unclonable() })
  const found = unpackError(structuredClone(packError(new TritswapError('network', 'outer', { cause }))))
  expect(found.cause).toMatchObject({ message: 'inner', cause: 'out of memory' })
})
