import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { TritswapError } from '../../src/errors.ts'
import type { Expert, ExpertRequest } from '../../src/loader/expert_library.ts'
import { type RetrievalHost, Retriever } from '../../src/loader/retrieval.ts'

let server: FaultServer
beforeAll(async () => {
  server = await startFaultServer()
})
afterAll(() => server.close())

const hash = (text: string) => createHash('sha256').update(text).digest('hex')
const UNITS = ['12 km in miles', '5 kg in pounds', '30 C in F', '70 mph in km/h']
const MORE = ['9 km in feet', '7 kg in stones', '31 C in K', '80 mph in knots']
const entry = (id: string, samples: string[], more: object = {}) => ({
  id,
  label: id.toUpperCase(),
  url: `${id}.trit`,
  bytes: 1,
  rootHash: hash(id),
  samples,
  ...more,
})

function registryOf(...experts: object[]): string {
  const path = `/${experts.length}-${server.files.size}/experts.json`
  server.files.set(path, { bytes: new TextEncoder().encode(JSON.stringify({ version: 1, experts })) })
  return server.url + path
}

/** A loader that notes what it is asked for. @param away - ids whose files no server answers for */
function fakeHost(away: string[] = []) {
  const done: string[] = []
  const loaded = new Map<string, Expert>()
  const host: RetrievalHost = {
    async load({ id, rootHash }: ExpertRequest) {
      if (away.includes(id!))
        throw new TritswapError('network', `Cannot fetch ${id}`, { fields: { url: id } })
      done.push(`load ${id}`)
      const expert = { id, rootHash } as Expert
      loaded.set(rootHash!, expert)
      return expert
    },
    async activate(experts) {
      done.push(`activate ${'id' in experts ? experts.id : 'base'}`)
      return {} as Awaited<ReturnType<RetrievalHost['activate']>>
    },
    async prefetch({ id }) {
      done.push(`prefetch ${id}`)
    },
    loaded: (rootHash) => loaded.get(rootHash),
  }
  return { done, retriever: new Retriever(host) }
}

test('the expert that fits is loaded once and put on; what fits no expert goes back to the base', async () => {
  const { done, retriever } = fakeHost()
  const registry = registryOf(entry('units', UNITS))
  const first = await retriever.retrieve('8 km in feet', { registry })
  expect(first).toMatchObject({ expert: { id: 'units' }, entry: { id: 'units' }, offline: false })
  expect(first.why).toContain('UNITS')
  await retriever.retrieve('41 F in C', { registry })
  expect(await retriever.retrieve('Write a poem about autumn', { registry })).toMatchObject({
    expert: undefined,
  })
  expect(done).toEqual(['load units', 'activate units', 'activate units', 'activate base'])
})

test('the runner-up is prefetched, and nothing is put on where a call binds its own', async () => {
  const { done, retriever } = fakeHost()
  const registry = registryOf(entry('units', UNITS), entry('more', MORE))
  await retriever.retrieve('8 kg in pounds', { registry, activate: false })
  await expect.poll(() => done).toEqual(['load units', 'prefetch more'])
})

test('without a network it takes what is kept, or the base, and says so', async () => {
  const registry = registryOf(entry('units', UNITS), entry('more', MORE))
  const kept = fakeHost(['units'])
  expect(await kept.retriever.retrieve('8 kg in pounds', { registry })).toMatchObject({
    expert: { id: 'more' },
    offline: true,
    why: expect.stringContaining('UNITS fits and is out of reach'),
  })
  const none = fakeHost(['units', 'more'])
  expect(await none.retriever.retrieve('8 kg in pounds', { registry })).toMatchObject({
    expert: undefined,
    offline: true,
    why: expect.stringContaining('the base answers'),
  })
})

test('an expert that was withdrawn is not put on', async () => {
  const { done, retriever } = fakeHost()
  const registry = registryOf(entry('units', UNITS, { withdrawn: 'It mixed up miles' }))
  expect(await retriever.retrieve('8 km in feet', { registry })).toMatchObject({ expert: undefined })
  expect(done).toEqual(['activate base'])
})

test('a registry that is not the one that the page holds to changes nothing', async () => {
  const { done, retriever } = fakeHost()
  const registry = registryOf(entry('units', UNITS))
  const integrity = `sha256-${Buffer.alloc(32).toString('base64')}`
  await expect(retriever.retrieve('8 km in feet', { registry, integrity })).rejects.toMatchObject({
    tag: 'integrity',
  })
  expect(done).toEqual([])
})
