import { describe, expect, test } from 'vitest'
import { TritswapError } from '../../src/errors.ts'
import { hubUrl } from '../../src/source/hf.ts'
import { blobSource, memorySource } from '../../src/source/memory.ts'
import { openSource } from '../../src/source/open.ts'
import { withRetry } from '../../src/source/retry.ts'
import type { ByteSource, StreamOptions } from '../../src/source/source.ts'
import { withStream } from '../../src/source/stream.ts'

const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251)

interface Counting extends ByteSource {
  streams: { offset: number; end?: number; closed: boolean }[]
}

/** Streams in pieces of 64 and keeps count of its requests. */
function counting(seekable = true, fail?: (at: number) => void): Counting {
  const streams: Counting['streams'] = []
  return {
    name: 'counting',
    streams,
    seekable,
    size: async () => bytes.length,
    read: () => Promise.reject(new Error('everything should be streamed')),
    async *stream(offset: number, { end }: StreamOptions = {}) {
      const record = { offset, end, closed: false }
      streams.push(record)
      try {
        for (
          let at = offset;
          at < Math.min(seekable ? (end ?? Infinity) : Infinity, bytes.length);
          at += 64
        ) {
          fail?.(at)
          yield bytes.slice(at, Math.min(at + 64, (seekable && end) || bytes.length))
        }
      } finally {
        record.closed = true
      }
    },
  }
}

const slice = (offset: number, length: number) => bytes.slice(offset, offset + length)

describe('withStream', () => {
  test('serves reads that follow one another from one request', async () => {
    const source = counting()
    const view = withStream(source)
    for (const [offset, length] of [
      [0, 10],
      [10, 100],
      [110, 0],
      [110, 890],
    ]) {
      expect(await view.read(offset, length)).toEqual(slice(offset, length))
    }
    expect(view.position).toBe(1000)
    await view.close()
    expect(source.streams).toEqual([{ offset: 0, end: undefined, closed: true }])
  })

  test('starts anew for a jump, and closes what was open', async () => {
    const source = counting()
    const view = withStream(source, { end: 800 })
    await view.read(0, 10)
    expect(await view.read(500, 10)).toEqual(slice(500, 10))
    expect(await view.read(100, 10)).toEqual(slice(100, 10))
    await view.close()
    expect(source.streams.map(({ offset, end }) => [offset, end])).toEqual([
      [0, 800],
      [500, 800],
      [100, 800],
    ])
    expect(source.streams.every(({ closed }) => closed)).toBe(true)
  })

  test('skips ahead in a source that cannot seek', async () => {
    const source = counting(false)
    const view = withStream(source, { end: 100 })
    await view.read(0, 10)
    expect(await view.read(500, 300)).toEqual(slice(500, 300))
    expect(source.streams.length).toBe(1)
  })

  test('a source that ends too soon is truncated', async () => {
    await expect(withStream(counting()).read(990, 20)).rejects.toMatchObject({
      tag: 'format',
      fields: { size: 1000 },
    })
    await expect(withStream(counting(false)).read(1010, 20)).rejects.toMatchObject({ tag: 'format' })
  })
})

describe('withRetry', () => {
  const failing = (times: number, fields: Record<string, unknown> = { retryable: true }) => {
    let left = times
    return counting(true, (at) => {
      if (at >= 200 && left-- > 0) throw new TritswapError('network', 'Cannot fetch it', { fields })
    })
  }
  const waits: number[] = []
  const policy = {
    baseMs: 100,
    maxMs: 1000,
    random: () => 1,
    sleep: async (ms: number) => void waits.push(ms),
  }

  test('goes on at the byte it reached', async () => {
    const source = failing(2)
    waits.length = 0
    expect(await withRetry(source, policy).read(0, 1000)).toEqual(slice(0, 1000))
    expect(source.streams.map(({ offset }) => offset)).toEqual([0, 256, 256])
    expect(waits).toEqual([100, 200])
  })

  test('is bounded, and the wait grows to its limit', async () => {
    waits.length = 0
    await expect(withRetry(failing(99), policy).read(0, 1000)).rejects.toMatchObject({ tag: 'network' })
    expect(waits).toEqual([100, 200, 400, 800, 1000])
  })

  test('starts the count anew after progress', async () => {
    const source = counting(true, (at) => {
      if (at % 128 === 0 && at > 0 && !seen.has(at)) {
        seen.add(at)
        throw new TritswapError('network', 'Cannot fetch it', { fields: { retryable: true } })
      }
    })
    const seen = new Set<number>()
    expect(await withRetry(source, { ...policy, attempts: 2, progressBytes: 100 }).read(0, 1000)).toEqual(
      slice(0, 1000),
    )
    expect(seen.size).toBe(7)
  })

  test('passes on at once what will not pass by itself', async () => {
    waits.length = 0
    await expect(withRetry(failing(1, {}), policy).read(0, 1000)).rejects.toMatchObject({ tag: 'network' })
    const waitTooLong = { retryable: true, retryAfterMs: 5000 }
    await expect(withRetry(failing(1, waitTooLong), policy).read(0, 1000)).rejects.toMatchObject({
      fields: waitTooLong,
    })
    expect(waits).toEqual([])
  })

  test('an abort ends the waiting', async () => {
    const controller = new AbortController()
    const reading = withRetry(failing(99), {
      onRetry: () => controller.abort(),
      baseMs: 1e6,
      maxMs: 1e6,
    }).read(0, 1000, { signal: controller.signal })
    await expect(reading).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('reads of a source without streams are tried again too', async () => {
    let left = 2
    const source: ByteSource = {
      ...memorySource(bytes),
      async read(offset, length) {
        if (left-- > 0) throw new TritswapError('network', 'Cannot fetch it', { fields: { retryable: true } })
        return slice(offset, length)
      },
    }
    expect(await withRetry(source, policy).read(5, 5)).toEqual(slice(5, 5))
  })
})

describe('openSource', () => {
  test('takes bytes, blobs, addresses and hub names', async () => {
    expect(await openSource(bytes.slice().buffer).read(3, 2)).toEqual(slice(3, 2))
    const file = openSource(new File([bytes], 'mine.trit'))
    expect(file.name).toBe('mine.trit')
    expect(await file.read(3, 2)).toEqual(slice(3, 2))
    expect(await file.size()).toBe(1000)
    await expect(blobSource(new Blob([bytes])).read(999, 2)).rejects.toMatchObject({ tag: 'format' })
    expect(openSource(new URL('https://x.example/y')).name).toBe('https://x.example/y')
    expect(openSource('hf:o/r/e.trit').name).toBe('https://huggingface.co/o/r/resolve/main/e.trit')
  })
})

describe('hubUrl', () => {
  test('knows folders and revisions', () => {
    expect(hubUrl('hf:org/repo/a/b c.trit@v1.0')).toBe(
      'https://huggingface.co/org/repo/resolve/v1.0/a/b%20c.trit',
    )
    expect(hubUrl('hf:org/repo/e.trit@refs/pr/1')).toBe(
      'https://huggingface.co/org/repo/resolve/refs%2Fpr%2F1/e.trit',
    )
  })

  test('refuses what names no file', () => {
    for (const name of [
      'hf:',
      'hf:org/repo',
      'hf:org//x',
      'hf:org/repo/x@',
      'hf:org/repo/../../x',
      'hf:org/repo/',
    ]) {
      expect(() => hubUrl(name), name).toThrowError(expect.objectContaining({ tag: 'input' }))
    }
  })
})
