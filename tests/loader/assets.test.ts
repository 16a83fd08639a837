import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ExpertLoader } from '../../src/loader/index.ts'
import { type FakePage, fakePage } from './fake_page.ts'

let page: FakePage
let loader: ExpertLoader | undefined
/** Each test has files of its own: what is there is looked for once. */
let folder: string
let count = 0

beforeEach(() => {
  page = fakePage()
  vi.stubGlobal('location', { href: 'https://page.example/', origin: 'https://page.example' })
  vi.stubGlobal('origin', 'https://page.example')
  loader = undefined
  folder = `/assets-${++count}`
})
afterEach(async () => {
  await loader?.dispose()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

const MISSING = 'ort-wasm-simd-threaded.asyncify.wasm'
const open = async (options = {}) => {
  loader = await ExpertLoader.create({ model: './m', assets: folder, ...options })
}
/** Answers for one file; the others are there. */
const answering = (name: string, answer: () => Response) => {
  page.heads = (url) => (url.endsWith(`/${name}`) ? answer() : new Response(null))
}

test('workers start from the folder of assets, relative to the page', async () => {
  const started: string[] = []
  const Fake = globalThis.Worker
  vi.stubGlobal(
    'Worker',
    class extends Fake {
      constructor(script: string | URL) {
        super(script)
        started.push(String(script))
      }
    },
  )
  await open()
  expect(started.sort()).toEqual([
    `https://page.example${folder}/engine.js`,
    `https://page.example${folder}/fetcher.js`,
  ])
})

test('blobWorkers starts them from blobs that import the scripts', async () => {
  const started: string[] = []
  const made: Blob[] = []
  vi.spyOn(URL, 'createObjectURL').mockImplementation((blob) => `blob:engine-${made.push(blob as Blob)}`)
  const Fake = globalThis.Worker
  vi.stubGlobal(
    'Worker',
    class extends Fake {
      constructor(script: string | URL) {
        super(script)
        started.push(String(script))
      }
    },
  )
  void open({ blobWorkers: true }).catch(() => {})
  await vi.waitFor(() => expect(started).toHaveLength(2))
  expect(started.every((script) => script.startsWith('blob:'))).toBe(true)
  const code = await Promise.all(made.map((blob) => blob.text()))
  expect(code.join()).toContain(`import("https://page.example${folder}/engine.js")`)
})

describe('a file that is missing is named, with what to do', () => {
  const remedy = /npx tritswap assets <folder>.*ExpertLoader\.create\(\{ assets \}\)/

  test.each([
    ['404', () => new Response(null, { status: 404 }), 'answered 404'],
    [
      'a page in its place',
      () => new Response('', { headers: { 'Content-Type': 'text/html' } }),
      'sent a page',
    ],
  ])('%s', async (_, answer, says) => {
    answering(MISSING, answer)
    // The engine never says anything: the file is found missing before.
    page.beforeOpen = new Promise(() => {})
    const error = await open().catch((error) => error)
    expect(error).toMatchObject({
      tag: 'network',
      fields: { url: `https://page.example${folder}/${MISSING}`, asset: true },
    })
    expect(error.message).toContain(`https://page.example${folder}/${MISSING}`)
    expect(error.message).toContain(says)
    expect(error.message).toMatch(remedy)
  })

  test('also where the worker dies of it first', async () => {
    let answered = (_: Response) => {}
    const answer = new Promise<Response>((resolve) => {
      answered = resolve
    })
    const { fetch } = globalThis
    vi.stubGlobal('fetch', (url: string, init?: RequestInit) =>
      init?.method === 'HEAD' && url.endsWith('engine.js') ? answer : fetch(url, init),
    )
    page.beforeOpen = new Promise(() => {})
    const opening = open().catch((error) => error)
    await vi.waitFor(() => expect(page.engines).toHaveLength(1))
    page.engines[0]!.crash()
    answered(new Response(null, { status: 404 }))
    expect(await opening).toMatchObject({ tag: 'network', message: expect.stringMatching(remedy) })
  })

  test('and is looked for again the next time', async () => {
    answering(MISSING, () => new Response(null, { status: 404 }))
    await expect(open()).rejects.toMatchObject({ tag: 'network' })
    answering('', () => new Response(null))
    await open()
    expect(loader!.info).toBeDefined()
  })
})

test.each([
  ['refuses to be asked for the head alone', () => new Response(null, { status: 405 })],
  ['fails for the moment', () => new Response(null, { status: 503 })],
])('a server that %s keeps nobody from trying', async (_, answer) => {
  answering(MISSING, answer)
  await open()
  expect(loader!.info).toBeDefined()
})
