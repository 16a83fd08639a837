import { expect, test } from 'vitest'
import { httpSource } from '../../src/source/http.ts'
import { joinedSource } from '../../src/source/joined.ts'
import { memorySource } from '../../src/source/memory.ts'
import { withStream } from '../../src/source/stream.ts'
import { tagThrownBy } from '../format/samples.ts'

const BYTES = Uint8Array.from({ length: 100 }, (_, i) => i)
const SIZES = [40, 1, 59]
const partsOf = (open: (bytes: Uint8Array<ArrayBuffer>, part: number) => ReturnType<typeof memorySource>) => {
  let at = 0
  return SIZES.map((bytes, i) => {
    const source = open(BYTES.slice(at, at + bytes), i)
    at += bytes
    return { source, bytes }
  })
}

/** A server of parts, which may know ranges or not. */
function served(ranges: boolean) {
  const asked: string[] = []
  const parts = partsOf((bytes, part) => {
    const fetch = async (_: unknown, { headers }: RequestInit = {}) => {
      const range = (headers as Record<string, string>).Range
      asked.push(`${part} ${range}`)
      const [, from, to] = /bytes=(\d+)-(\d*)/.exec(range)!
      if (!ranges) return new Response(bytes)
      const body = bytes.slice(Number(from), to === '' ? undefined : Number(to) + 1)
      const last = Number(from) + body.length - 1
      return new Response(body, {
        status: 206,
        headers: { 'Content-Range': `bytes ${from}-${last}/${bytes.length}` },
      })
    }
    return httpSource(`https://host.example/${part}`, { fetch: fetch as typeof globalThis.fetch })
  })
  return { source: joinedSource('whole', parts), asked }
}

test('parts in memory are one file', async () => {
  const source = joinedSource(
    'whole',
    partsOf((bytes) => memorySource(bytes)),
  )
  expect(await source.size()).toBe(100)
  for (const [offset, length] of [
    [0, 100],
    [39, 3],
    [40, 1],
    [41, 0],
    [99, 1],
  ])
    expect(await source.read(offset, length)).toEqual(BYTES.slice(offset, offset + length))
  expect(await tagThrownBy(() => source.read(99, 2))).toBe('format')
})

test.each([true, false])('a server that knows ranges: %s', async (ranges) => {
  const { source, asked } = served(ranges)
  expect(await source.read(38, 5)).toEqual(BYTES.slice(38, 43))
  expect(source.seekable).toBe(ranges)
  const view = withStream(source)
  expect(await view.read(10, 50)).toEqual(BYTES.slice(10, 60))
  expect(await view.read(60, 40)).toEqual(BYTES.slice(60))
  await view.close()
  if (ranges) expect(asked.slice(0, 3)).toEqual(['0 bytes=38-39', '1 bytes=0-0', '2 bytes=0-1'])
  const ended = withStream(source, { end: 20 })
  expect(await ended.read(5, 15)).toEqual(BYTES.slice(5, 20))
  await ended.close()
})

test('a part that is shorter than the manifest says is an error', async () => {
  const source = joinedSource('whole', [
    { source: memorySource(BYTES.slice(0, 10), 'first'), bytes: 12 },
    { source: memorySource(BYTES, 'second'), bytes: 100 },
  ])
  expect(await tagThrownBy(() => source.read(8, 10))).toBe('format')
})
