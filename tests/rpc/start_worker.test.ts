import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { startWorker } from '../../src/rpc/index.ts'

let started: string[]

beforeEach(() => {
  started = []
  vi.stubGlobal(
    'Worker',
    class {
      constructor(script: string) {
        started.push(script)
      }
    },
  )
  vi.stubGlobal('location', { href: 'https://page.example/embed.html', origin: 'https://page.example' })
})
afterEach(() => vi.unstubAllGlobals())

function start(script: string): string {
  startWorker((Constructor) => new Constructor(script, { type: 'module' }))
  return started[0]
}

test('a script of this origin is started as it is', () => {
  vi.stubGlobal('origin', 'https://page.example')
  expect(start('https://page.example/lib/worker.js')).toBe('https://page.example/lib/worker.js')
})

test('a script of another origin is imported by one of this origin', () => {
  vi.stubGlobal('origin', 'https://page.example')
  expect(start('https://cdn.example/worker.js')).toMatch(/^blob:/)
})

test('a sandboxed frame is of no origin: each script is another one, imported from a data address', () => {
  vi.stubGlobal('origin', 'null')
  const address = start('https://page.example/lib/sandboxed_worker.js')
  expect(address).toMatch(/^data:text\/javascript,/)
  expect(decodeURIComponent(address)).toContain('import("https://page.example/lib/sandboxed_worker.js")')
})

test('under Trusted Types one policy of a known name makes every address', async () => {
  const names: string[] = []
  class TrustedUrl {
    constructor(readonly url: string) {}
    toString() {
      return this.url
    }
  }
  vi.stubGlobal('origin', 'https://page.example')
  vi.stubGlobal('trustedTypes', {
    createPolicy(name: string, { createScriptURL }: { createScriptURL(url: string): string }) {
      names.push(name)
      return { createScriptURL: (url: string) => new TrustedUrl(createScriptURL(url)) }
    },
  })
  vi.resetModules()
  const { startWorker: start } = await import('../../src/rpc/start_worker.ts')
  for (const script of ['https://page.example/worker.js', 'https://cdn.example/other.js'])
    start((Constructor) => new Constructor(script, { type: 'module' }))
  expect(started.map((script: unknown) => script instanceof TrustedUrl)).toEqual([true, true])
  expect(names).toEqual(['tritswap'])
})
