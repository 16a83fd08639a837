import { expect, test } from 'vitest'
import { startThread } from '../../src/cli/node_worker.ts'
import { connectWorker } from '../../src/rpc/index.ts'

interface Silent {
  ask(): number
}

/** A thread that runs this script, and never answers. */
const connect = (script: string) =>
  connectWorker<Silent>(startThread(new URL(`data:text/javascript,${script}`)), 'test thread')

test.each([
  ['that throws', 'throw new Error("no luck")', /test thread: it failed: no luck/],
  ['that ends by itself', 'process.exit(3)', /test thread: it failed: it exited with code 3/],
  ['that does not load', 'import "./nowhere.js"', /test thread: it failed: .*nowhere/],
])('calls to a thread %s reject with a typed error', async (_, script, message) => {
  const { api } = connect(script)
  await expect(api.ask()).rejects.toMatchObject({ tag: 'worker', message: expect.stringMatching(message) })
  await expect(api.ask()).rejects.toMatchObject({ tag: 'worker' })
})

test('calls to a thread that is ended reject', async () => {
  const { api, terminate } = connect('setInterval(() => {}, 1000)')
  const call = api.ask()
  terminate()
  await expect(call).rejects.toMatchObject({ tag: 'worker', message: expect.stringMatching('was stopped') })
})
