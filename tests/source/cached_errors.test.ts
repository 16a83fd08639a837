import { afterEach, expect, test, vi } from 'vitest'
import { readModelManifest } from '../../src/fetcher/manifest.ts'
import { httpSource } from '../../src/source/http.ts'
import { withRetry } from '../../src/source/retry.ts'

afterEach(() => vi.unstubAllGlobals())

const url = 'https://files.example/x.bin'

/** A browser whose HTTP cache has an error for every address; the server itself is well again. */
function browserWithOldError(status: number, headers: Record<string, string>, body: BodyInit = 'good') {
  const asked: (RequestCache | undefined)[] = []
  const fetch = async (_: unknown, { cache }: RequestInit = {}) => {
    asked.push(cache)
    return cache === 'reload' ? new Response(body) : new Response('gone', { status, headers })
  }
  return { asked, fetch: fetch as typeof globalThis.fetch }
}

test.each([
  [410, { 'Cache-Control': 'public, max-age=86400' }],
  [404, { Expires: 'Wed, 21 Oct 2099 07:28:00 GMT' }],
])('%i that may be kept is asked for once more past the cache', async (status, headers) => {
  const { fetch, asked } = browserWithOldError(status, headers as Record<string, string>)
  expect(new TextDecoder().decode(await httpSource(url, { fetch }).read(0, 4))).toBe('good')
  expect(asked).toEqual(['default', 'reload'])
})

test.each([500, 503])('the retry after %i goes past the cache', async (status) => {
  for (const headers of [{ 'Cache-Control': 'max-age=600' }, {}]) {
    const { fetch, asked } = browserWithOldError(status, headers as Record<string, string>)
    const source = withRetry(httpSource(url, { fetch }), { sleep: async () => {} })
    expect(new TextDecoder().decode(await source.read(0, 4))).toBe('good')
    expect(asked).toEqual(['default', 'reload'])
  }
})

test.each([{}, { 'Cache-Control': 'no-store' }, { 'Cache-Control': 'max-age=0' }])(
  'an error that no cache keeps (%o) is asked for once',
  async (headers) => {
    const { fetch, asked } = browserWithOldError(404, headers as Record<string, string>)
    await expect(httpSource(url, { fetch }).read(0, 4)).rejects.toMatchObject({ fields: { status: 404 } })
    expect(asked).toEqual(['default'])
  },
)

test('an error that stays is thrown after the second answer', async () => {
  let requests = 0
  const fetch = async () => {
    requests++
    return new Response(null, { status: 410, headers: { 'Cache-Control': 'max-age=60' } })
  }
  await expect(httpSource(url, { fetch }).read(0, 4)).rejects.toMatchObject({ fields: { status: 410 } })
  expect(requests).toBe(2)
})

test('a folder that was not prepared, or was down, when it was last asked has its manifest now', async () => {
  const manifest = {
    version: 1,
    weights: { file: 'base.trit', bytes: 100, rootHash: 'a'.repeat(64) },
    graphs: [],
    dtype: 'fp32',
  }
  for (const status of [404, 410, 503]) {
    const { fetch } = browserWithOldError(
      status,
      { 'Cache-Control': 'max-age=600' },
      JSON.stringify(manifest),
    )
    vi.stubGlobal('fetch', fetch)
    expect(await readModelManifest('https://files.example/model/')).toMatchObject(manifest)
  }
})
