import { expect, test } from 'vitest'
import { abortable } from '../../src/async/abortable.ts'

test('gives what the promise gives, and leaves no listener', async () => {
  const { signal } = new AbortController()
  let listeners = 0
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners++
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners--
    removeEventListener.apply(signal, args)
  }
  expect(await abortable(Promise.resolve(1), signal)).toBe(1)
  await expect(abortable(Promise.reject(new RangeError('2')), signal)).rejects.toThrow(RangeError)
  await expect.poll(() => listeners).toBe(0)
})

test('rejects with the reason of the signal, whether it aborts before or while waiting', async () => {
  const controller = new AbortController()
  const waiting = abortable(new Promise(() => {}), controller.signal)
  controller.abort(new RangeError('enough'))
  await expect(waiting).rejects.toThrow('enough')
  await expect(abortable(Promise.resolve(1), controller.signal)).rejects.toThrow('enough')
  await expect(abortable(Promise.resolve(1), AbortSignal.abort('text'))).rejects.toMatchObject({
    name: 'AbortError',
  })
})
