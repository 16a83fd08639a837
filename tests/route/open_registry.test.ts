import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { centroidsOf } from '../../src/route/centroids.ts'
import { writeIndex } from '../../src/route/index_file.ts'
import { OpenRegistry } from '../../src/route/open_registry.ts'

let server: FaultServer
beforeAll(async () => {
  server = await startFaultServer()
})
afterAll(() => server.close())

const samples = ['12 km in miles', '5 kg in pounds', '30 C in F', '70 mph in km/h']
const hex = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const sri = (bytes: Uint8Array) => `sha256-${createHash('sha256').update(bytes).digest('base64')}`
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const entry = (n: number) => ({
  id: `e${n}`,
  label: `Skill ${n}`,
  url: `${n}.trit`,
  bytes: 1,
  rootHash: hex(json(n)),
})

/** A registry of 30 experts: ten at hand, twenty on two pages. The 25th is the one with requests. */
function serveRegistry(
  folder: string,
  change: { index?: Uint8Array; page?: unknown; names?: string[] } = {},
) {
  const all = Array.from({ length: 30 }, (_, n) => entry(n))
  const index = writeIndex(
    all.map(({ id, label }, n) => ({
      id: change.names?.[n] ?? id,
      label,
      centroids: n === 25 ? centroidsOf(samples) : [],
    })),
  )
  const pages = [
    json({ version: 1, experts: all.slice(10, 20) }),
    json({ version: 1, experts: all.slice(20) }),
  ]
  const of = (url: string, bytes: Uint8Array) => ({ url, bytes: bytes.length, sha256: hex(bytes) })
  const registry = json({
    version: 1,
    index: of('experts.idx', index),
    pages: pages.map((page, n) => ({ ...of(`experts.${n + 1}.json`, page), count: 10 })),
    experts: all.slice(0, 10),
  })
  const put = (name: string, bytes: Uint8Array) => {
    server.files.set(`/${folder}/${name}`, { bytes })
    return `${server.url}/${folder}/${name}`
  }
  put('experts.idx', change.index ?? index)
  put('experts.1.json', pages[0]!)
  put('experts.2.json', change.page === undefined ? pages[1]! : json(change.page))
  return { url: put('experts.json', registry), bytes: registry, put }
}

const requested = (part: string) => server.log.filter(({ path }) => path.includes(part)).length

describe('a registry of pages', () => {
  test('routes and searches by its index, and fetches only the page that is asked for', async () => {
    const registry = await OpenRegistry.open(serveRegistry('paged').url)
    expect(registry.count).toBe(30)
    expect((await registry.route('8 km in feet')).chosen?.id).toBe('e25')
    expect((await registry.search('skill 2')).map(({ at }) => at)).toContain(25)
    expect(requested('paged/experts.2.json')).toBe(0)
    expect(await registry.entry('e25')).toMatchObject({
      id: 'e25',
      url: expect.stringMatching(/\/paged\/25\.trit$/),
    })
    expect(await registry.entries(18, 22)).toMatchObject([
      { id: 'e18' },
      { id: 'e19' },
      { id: 'e20' },
      { id: 'e21' },
    ])
    expect([requested('paged/experts.idx'), requested('paged/experts.2.json')]).toEqual([1, 1])
    await expect(registry.entry('nobody')).rejects.toMatchObject({ tag: 'input' })
  })

  test('refuses an index of another registry, a page of another one, and names that are not its own', async () => {
    const other = writeIndex([{ id: 'evil', label: 'Evil', centroids: centroidsOf(samples) }])
    const swapped = await OpenRegistry.open(serveRegistry('swapped', { index: other }).url)
    await expect(swapped.route('8 km in feet')).rejects.toMatchObject({ tag: 'integrity' })
    const paged = await OpenRegistry.open(serveRegistry('evil', { page: { version: 1, experts: [] } }).url)
    await expect(paged.entries(20, 30)).rejects.toMatchObject({ tag: 'integrity' })
    const named = await OpenRegistry.open(serveRegistry('named', { names: ['stranger'] }).url)
    await expect(named.route('8 km in feet')).rejects.toMatchObject({ tag: 'format' })
  })
})

describe('what a page holds to', () => {
  test('a hash: that registry and no other', async () => {
    const { url, bytes } = serveRegistry('pinned')
    await expect(OpenRegistry.open(url, { integrity: sri(bytes) })).resolves.toBeDefined()
    await expect(OpenRegistry.open(url, { integrity: sri(json('other')) })).rejects.toMatchObject({
      tag: 'integrity',
    })
    await expect(OpenRegistry.open(url, { integrity: 'md5-abc' })).rejects.toMatchObject({ tag: 'input' })
  })

  test('a key: what it signed, and nothing unsigned, changed or signed by another', async () => {
    const { url, bytes, put } = serveRegistry('signed')
    const mine = generateKeyPairSync('ed25519')
    const signedBy = Buffer.from(mine.publicKey.export({ format: 'jwk' }).x!, 'base64url').toString('base64')
    const signature = (data: Uint8Array, key = mine.privateKey) => sign(null, data, key).toString('base64')
    const open = () => OpenRegistry.open(url, { signedBy })
    await expect(open()).rejects.toMatchObject({ tag: 'integrity' })
    put('experts.json.sig', Buffer.from(signature(bytes)))
    await expect(open()).resolves.toBeDefined()
    put('experts.json.sig', Buffer.from(signature(bytes, generateKeyPairSync('ed25519').privateKey)))
    await expect(open()).rejects.toMatchObject({ tag: 'integrity' })
    put('experts.json.sig', Buffer.from(signature(json('other'))))
    await expect(open()).rejects.toMatchObject({ tag: 'integrity' })
    await expect(OpenRegistry.open(url, { signedBy: 'short' })).rejects.toMatchObject({ tag: 'input' })
  })
})
