import { access, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { openFile, openFolder, openPath, readText } from '../../src/cli/file_source.ts'
import { openRepository } from '../../src/cli/hub/repository.ts'
import { parseHubName } from '../../src/source/hf.ts'
import { COMMIT, type HubServer, sha256, startHub } from './hub_server.ts'
import { tritswap } from './in_process.ts'

const LARGE = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) % 251)
const CONFIG = new TextEncoder().encode('{"peft_type":"LORA"}')
const TOKEN = 'hf_secretsecret'

let folder: string
let hub: HubServer
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-hub-'))
  const files = {
    'a.json': CONFIG,
    'b.txt': CONFIG,
    'empty.txt': new Uint8Array(),
    'x/y/large.bin': LARGE,
    z: CONFIG,
  }
  hub = await startHub({ 'me/open': { files }, 'me/mine': { files, token: TOKEN } })
  vi.stubEnv('HF_ENDPOINT', hub.endpoint)
  vi.stubEnv('HF_HOME', folder)
  vi.stubEnv('HF_HUB_CACHE', '')
  vi.stubEnv('HF_TOKEN', '')
  vi.stubEnv('HF_HUB_OFFLINE', '')
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await hub.close()
  await rm(folder, { recursive: true })
})

const cached = (repo: string, ...path: string[]) => join(folder, 'hub', `models--me--${repo}`, ...path)

async function bytesAt(address: string): Promise<Uint8Array> {
  const file = await openFile(address)
  try {
    return await file.read(0, (await file.size())!)
  } finally {
    await file.close()
  }
}

describe('names', () => {
  test.each([
    ['hf:a/b', 'main', ''],
    ['hf:a/b@v1', 'v1', ''],
    ['hf:a/b/c/d.trit', 'main', 'c/d.trit'],
    ['hf:a/b@v1/c/d.trit', 'v1', 'c/d.trit'],
    ['hf:a/b/c/d.trit@v1', 'v1', 'c/d.trit'],
    ['hf:a/b@refs/pr/7/c', 'refs/pr/7', 'c'],
    ['hf:a/b@refs/pr/7', 'refs/pr/7', ''],
  ])('%s', (name, revision, path) => {
    expect(parseHubName(name)).toEqual({ owner: 'a', repo: 'b', revision, path })
  })

  test.each(['hf:a', 'hf:a/', 'hf:a/b@', 'hf:a/b@..', 'hf:a/b/../c', 'hf:a/b@v1/../c', 'hf:a/b//c'])(
    '%s is none',
    (name) => {
      expect(() => parseHubName(name)).toThrow(expect.objectContaining({ tag: 'input' }))
    },
  )
})

describe('files of the hub', () => {
  test('large ones by their redirect, small ones at once; a second read asks for nothing', async () => {
    expect(sha256(await bytesAt('hf:me/open@v1/x/y/large.bin'))).toBe(sha256(LARGE))
    expect(await readText('hf:me/open/a.json@v1')).toBe('{"peft_type":"LORA"}')
    expect(await bytesAt('hf:me/open@v1/empty.txt')).toEqual(new Uint8Array())
    const { length } = hub.requests
    expect(sha256(await bytesAt('hf:me/open@v1/x/y/large.bin'))).toBe(sha256(LARGE))
    expect(hub.requests).toHaveLength(length)
    // As Python's tools keep them.
    const pointer = cached('open', 'snapshots', COMMIT, 'x/y/large.bin')
    expect(await readlink(pointer)).toBe(join('../../../../blobs', sha256(LARGE)))
    expect(await readFile(cached('open', 'refs/v1'), 'utf8')).toBe(COMMIT)
  })

  test('a folder is listed whole, through the pages of the list', async () => {
    const open = openFolder('hf:me/open')
    expect(await open.list()).toEqual(['a.json', 'b.txt', 'empty.txt', 'x', 'z'])
    expect(hub.requests.filter((request) => request.includes('/tree/'))).toHaveLength(2)
    expect((await open.open('a.json')).name).toBe(`hf:me/open@${COMMIT.slice(0, 12)}/a.json`)
    const below = await openPath('hf:me/open/x')
    expect('list' in below && (await below.list())).toEqual(['y'])
    // A file stands for its folder.
    expect(await openFolder('hf:me/open/x/y/large.bin').list()).toEqual(['large.bin'])
  })

  test('a transfer that is cut goes on where it was', async () => {
    hub.cuts.set('x/y/large.bin', [100_000, 50_000])
    expect(sha256(await bytesAt('hf:me/open/x/y/large.bin'))).toBe(sha256(LARGE))
    const ranges = hub.requests
      .filter((request) => request.startsWith('cdn'))
      .map((line) => line.split(' ').at(-1))
    expect(ranges[0]).toBe(`bytes=0-${LARGE.length - 1}`)
    expect(ranges).toHaveLength(3)
    // The client may not have read all that was sent before the cut, and never asks for what it has.
    const starts = ranges.map((range) => Number(/=(\d+)-/.exec(range!)![1]))
    expect(starts[1]).toBeGreaterThan(0)
    expect(starts[2]).toBeGreaterThanOrEqual(starts[1])
  })

  test('what another run left is gone on with, unless it is something else', async () => {
    const partial = cached('open', 'blobs', `${sha256(LARGE)}.tritswap.incomplete`)
    await openRepository('hf:me/open@v1').then(({ local }) => local('a.json'))
    await writeFile(partial, LARGE.subarray(0, 250_000))
    expect(sha256(await bytesAt('hf:me/open@v1/x/y/large.bin'))).toBe(sha256(LARGE))
    expect(hub.requests.at(-1)).toMatch(/^cdn .* bytes=250000-299999$/)

    await rm(cached('open', 'blobs', sha256(LARGE)))
    await writeFile(partial, new Uint8Array(1000))
    expect(sha256(await bytesAt(`hf:me/open@${COMMIT}/x/y/large.bin`))).toBe(sha256(LARGE))
    await expect(access(partial)).rejects.toThrow()
  })

  test('bytes of another hash are refused, and not kept', async () => {
    const repository = await openRepository('hf:me/open')
    await repository.local('z')
    hub.repositories.get('me/open')!.files['x/y/large.bin'] = LARGE.map((value) => value ^ 1)
    await expect(repository.local('x/y/large.bin')).rejects.toMatchObject({ tag: 'integrity' })
    await expect(access(cached('open', 'blobs', sha256(LARGE)))).rejects.toThrow()
  })
})

describe('refusals', () => {
  test('without a token the remedy is said', async () => {
    const { code, err } = await tritswap('inspect', 'hf:me/mine/x.trit')
    expect(code).toBe(1)
    expect(err).toMatch(/^Cannot open hf:me\/mine: the hub asks for a token, .* set HF_TOKEN/)
  })

  test('a token goes to the hub only, and is never printed', async () => {
    vi.stubEnv('HF_TOKEN', TOKEN)
    expect(sha256(await bytesAt('hf:me/mine/x/y/large.bin'))).toBe(sha256(LARGE))
    expect(hub.headersOf(`resolve/${COMMIT}/x/y/large.bin`).authorization).toBe(`Bearer ${TOKEN}`)
    expect(hub.headersOf('me/mine/x/y/large.bin').authorization).toBeUndefined()

    vi.stubEnv('HF_TOKEN', 'hf_another')
    const { code, out, err } = await tritswap('inspect', 'hf:me/mine@refs/pr/7/x.trit')
    expect(code).toBe(1)
    expect(err).toMatch(/HF_TOKEN may not read me\/mine; .* accept its terms/)
    expect(out + err).not.toContain('hf_another')
  })

  test.each([
    ['hf:me/none', 'the hub asks for a token'],
    ['hf:me/open@nothing', 'no me/open with the revision nothing'],
    ['hf:me/open/no.trit', 'has no no.trit; it has a.json, b.txt'],
    ['hf:me/open/x', 'it is a folder, expected a file in it'],
    ['hf:me', 'expected hf:owner/repo'],
  ])('%s', async (address, message) => {
    expect(await tritswap('inspect', address)).toMatchObject({
      code: 1,
      err: expect.stringContaining(message),
    })
  })

  test('a list that leads out of the cache is refused', async () => {
    hub.repositories.get('me/open')!.files['../../evil'] = CONFIG
    await expect(openRepository('hf:me/open')).rejects.toMatchObject({ tag: 'format' })
  })
})

test('without a network, what was fetched is used', async () => {
  await bytesAt('hf:me/open@v1/a.json')
  vi.stubEnv('HF_HUB_OFFLINE', '1')
  // A repository is opened once a process, so another name of the same commit.
  expect(await readText(`hf:me/open@${COMMIT}/a.json`)).toBe('{"peft_type":"LORA"}')
  await expect(openFile('hf:me/mine/a.json')).rejects.toMatchObject({ tag: 'input' })
})
