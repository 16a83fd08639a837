import { expect, test } from 'vitest'
import { TritswapError } from '../../src/errors.ts'
import { connectWorker, type WorkerLink } from '../../src/rpc/index.ts'
import type { TestApi } from './rpc.worker.ts'

function connect(): WorkerLink<TestApi> {
  const worker = new Worker(new URL('./rpc.worker.ts', import.meta.url), { type: 'module' })
  return connectWorker<TestApi>(worker, 'test worker')
}

test('calls cross threads with typed errors, signals, callbacks and iterables', async () => {
  const link = connect()
  expect(await link.api.add(2, 3)).toBe(5)

  const error = await link.api.fail().catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(TritswapError)
  expect(error).toMatchObject({
    tag: 'limit',
    fields: { found: 3 },
    cause: { name: 'RangeError', message: 'inner' },
  })

  const controller = new AbortController()
  const call = link.api.untilAborted(controller.signal)
  controller.abort()
  await expect(call).rejects.toMatchObject({ name: 'AbortError' })

  const values: number[] = []
  for await (const value of await link.api.count(100)) if (values.push(value) === 5) break
  expect(values).toEqual([1, 2, 3, 4, 5])

  const reported: ArrayBuffer[] = []
  await link.api.report((value) => reported.push(value))
  await expect.poll(() => reported[0]?.byteLength).toBe(8)
  link.terminate()
  await expect(link.api.add(1, 1)).rejects.toMatchObject({ tag: 'worker' })
})

test('a thread that ends without a word rejects what waits for it', async () => {
  const link = connect()
  const pending = link.api.never()
  void link.api.vanish().catch(() => {})
  await expect(pending).rejects.toMatchObject({
    tag: 'worker',
    message: expect.stringContaining('its thread ended'),
  })
})

test('an error that nobody caught in the worker rejects what waits for it', async () => {
  const link = connect()
  const iterator = await link.api.count(1e9)
  await iterator.next()
  await expect(link.api.crash()).rejects.toMatchObject({
    tag: 'worker',
    message: expect.stringContaining('boom'),
  })
  await expect(iterator.next()).rejects.toMatchObject({ tag: 'worker' })
})

test('a script that does not load is an error, not silence', async () => {
  const url = URL.createObjectURL(new Blob(['import "/no/such/module.js"'], { type: 'text/javascript' }))
  const link = connectWorker<TestApi>(new Worker(url, { type: 'module' }), 'test worker')
  await expect(link.api.add(1, 1)).rejects.toMatchObject({ tag: 'worker' })
})
