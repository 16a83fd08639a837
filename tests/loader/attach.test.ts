import { beforeEach, expect, test } from 'vitest'
import { isTritswapError } from '../../src/errors.ts'
import { AttachedExperts } from '../../src/loader/attach.ts'
import type { OrtSession } from '../../src/model/hoisted_session.ts'
import { type FakeFiles, type FakeHost, fakeFetches, fakeFiles, fakeHost } from './fake_host.ts'

let files: FakeFiles
let fake: FakeHost
let released: number
let attached: AttachedExperts
let model: OrtSession

beforeEach(() => {
  files = fakeFiles()
  fake = fakeHost(2000)
  released = 0
  const session: OrtSession = {
    inputNames: [],
    run: async () => ({ ran: fake.merged().join('+') || 'base' }),
    release: async () => {
      released++
    },
  }
  const { runtime } = fake.host
  const sessions = runtime.sessions({ model: session }, runtime.passContext())
  attached = new AttachedExperts(fake.host, sessions, fakeFetches(files) as never, {})
  model = attached.session
})

test('the sessions run with what is active, loaded again where it was evicted', async () => {
  const a = await attached.load('a.trit')
  const b = await attached.load({ source: new URL('https://x.example/b.trit') })
  const c = await attached.load('c.trit')
  expect([a.id, b.id, c.id]).toEqual(['a', 'b', 'c'])
  expect(await model.run({})).toEqual({ ran: 'base' })
  await attached.activate([
    { expert: a, weight: 0.5 },
    { expert: b, weight: 0.5 },
  ])
  expect(await model.run({})).toEqual({ ran: 'a+b' })
  expect(attached.stats()).toMatchObject({
    active: [{ expert: 'a', weight: 0.5 }, { expert: 'b' }],
    lastSwitch: { set: 1, phases: { fetch: 10 } },
  })
  await attached.deactivate()
  expect(await model.run({})).toEqual({ ran: 'base' })
  await a.release()
  await expect(a.release()).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
})

test('dispose waits for the run under way, frees everything once, and ends what comes after', async () => {
  const a = await attached.load('a.trit')
  await attached.activate(a)
  const running = model.run({})
  await Promise.all([attached.dispose(), attached.dispose()])
  expect(await running).toEqual({ ran: 'a' })
  expect([released, fake.destroyed]).toEqual([1, true])
  for (const call of [() => attached.load('b.trit'), () => attached.activate(a), () => attached.deactivate()])
    await expect(call()).rejects.toSatisfy((error) => isTritswapError(error, 'released'))
})
