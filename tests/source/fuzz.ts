/**
 * What comes over the network or in an address: registries, manifests, configurations, names of the hub, hashes of links,
 * headers of servers, entries of the browser's cache. Every case ends in a result that is true to itself or in one of
 * our errors.
 *
 * @module
 */
import { parseLink } from '../../src/demo/link.ts'
import { pensOfRegistry } from '../../src/element/pens.ts'
import { checkModelFile } from '../../src/engine/model_config.ts'
import { fetchFile } from '../../src/fetcher/fetcher.ts'
import { parseManifest, preparedPaths } from '../../src/fetcher/manifest.ts'
import { openChunkCache } from '../../src/source/cache.ts'
import { hubFolderUrl, hubUrl } from '../../src/source/hf.ts'
import { httpSource } from '../../src/source/http.ts'
import { folderName, folderUrl } from '../../src/source/model_folder.ts'
import { parseRegistry } from '../../src/source/registry.ts'
import { withRetry } from '../../src/source/retry.ts'
import { tritFile } from '../fetcher/trit_file.ts'
import { below, fuzzOf, jsonBytes, mutated, mutatedText, pick, type Random } from '../hostile.ts'
import { memoryCacheStorage } from './memory_cache_storage.ts'

function expect(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(what)
}

const ENTRY = { id: 'a', label: 'A', url: 'a.trit', bytes: 9, rootHash: '0'.repeat(64), variantOf: 'b' }
const REGISTRY = {
  version: 1,
  base: { name: 'base', fingerprint: '1'.repeat(64) },
  experts: [ENTRY, { ...ENTRY, id: 'b', quality: { gainKept: 1, agreement: 1, kl: 0 } }],
}

async function registry(random: Random): Promise<void> {
  const { experts } = parseRegistry(new TextDecoder().decode(jsonBytes(random, mutated(random, REGISTRY))))
  const shown = pensOfRegistry(experts).flatMap((pen) => pen.variants ?? [pen])
  expect(shown.length === experts.length, `${shown.length} of ${experts.length} experts are shown`)
}

const MANIFEST = {
  version: 1,
  weights: { file: 'weights.trit', bytes: 9, rootHash: '0'.repeat(64) },
  graphs: ['onnx/model.onnx'],
  dtype: 'fp32',
}

async function manifest(random: Random): Promise<void> {
  const read = parseManifest(jsonBytes(random, mutated(random, MANIFEST)), 'tritswap.json')
  for (const path of [read.weights.file, ...preparedPaths(read, ['onnx/model.onnx'])])
    new URL(path, 'https://models.example/m/')
}

const MODEL_FILES = {
  'config.json': { model_type: 'llama', num_hidden_layers: 2, text_config: { num_layers: 1 } },
  'tokenizer.json': { model: { vocab: { a: 0 }, merges: [] } },
  'tokenizer_config.json': { tokenizer_class: 'X' },
  'generation_config.json': { eos_token_id: [1] },
}

async function modelFile(random: Random): Promise<void> {
  const [file, content] = pick(random, Object.entries(MODEL_FILES))
  checkModelFile(file, file, jsonBytes(random, mutated(random, content)))
}

const NAMES = ['hf:owner/repo/path/to/file.trit@main', 'hf:owner/repo', 'models/demo', 'https://x.example/m']

async function hubName(random: Random): Promise<void> {
  const name = mutatedText(random, pick(random, NAMES))
  const folder = folderUrl(name, 'https://page.example/')
  expect(folder.endsWith('/') || !name.startsWith('hf:'), folder)
  folderName(folder)
  if (!name.startsWith('hf:')) return
  for (const address of [hubFolderUrl(name), hubUrl(`${name.split('@')[0]}/x`)]) {
    const { origin, pathname } = new URL(address)
    expect(origin === 'https://huggingface.co', address)
    expect(/^\/[^/]+\/[^/]+\/resolve\/[^/]+\//.test(pathname), address)
  }
}

async function link(random: Random): Promise<void> {
  const { prompt = '', pens = [] } = parseLink(
    mutatedText(random, '#prompt=Once%20upon&pens=bard:0.75,css:-1'),
  )
  expect(prompt.length <= 16_384 && pens.length <= 64, 'a link asks for too much')
  expect(
    pens.every(({ weight }) => Number.isFinite(Math.fround(weight))),
    'a weight is no number',
  )
}

const HEADERS: Record<string, readonly string[]> = {
  'Content-Range': ['bytes 3-9/10', 'bytes 0-9/10', 'bytes 3-9/*', 'bytes */10'],
  'Content-Length': ['7', '10', '0'],
  'Content-Encoding': ['gzip', 'identity'],
  'Retry-After': ['1', 'Wed, 21 Oct 2015 07:28:00 GMT'],
  'Cache-Control': ['max-age=60', 'no-store'],
  Expires: ['0'],
  ETag: ['"a"', 'W/"a"'],
}
const FILE = Uint8Array.from({ length: 10 }, (_, i) => i)

async function headers(random: Random): Promise<void> {
  let requests = 0
  const fetch = async () => {
    expect(++requests < 40, 'requests without end')
    const status = pick(random, [200, 200, 206, 206, 206, 204, 304, 404, 410, 416, 429, 500, 503])
    const sent = new Headers()
    for (const [name, values] of Object.entries(HEADERS)) {
      if (random() < 0.5) continue
      const value = random() < 0.5 ? pick(random, values) : mutatedText(random, pick(random, values))
      // Browsers drop what is no header before a page sees it.
      if (/^[\x20-\x7e]*$/.test(value)) sent.set(name, value)
    }
    const from = status === 206 ? 3 : 0
    const body = status === 204 || status === 304 ? null : FILE.slice(from, from + below(random, 12))
    return new Response(body, { status, headers: sent })
  }
  const source = withRetry(
    httpSource('https://files.example/x', { fetch: fetch as typeof globalThis.fetch }),
    {
      attempts: 3,
      sleep: async () => {},
    },
  )
  const bytes = await source.read(3, 4)
  expect(bytes.length === 4, `${bytes.length} bytes for 4`)
}

const URL_OF_FILE = 'https://files.example/x.trit'
const whole = tritFile({ weights: 20_000 })

async function cacheEntries(random: Random): Promise<void> {
  const { bytes, head, payload } = await whole
  const { storage, entries } = memoryCacheStorage()
  const fetch = async () => new Response(bytes)
  const load = () => {
    const chunks: Uint8Array[] = []
    const sink = {
      head() {},
      end() {},
      async chunk({ offset, bytes }: { offset: number; bytes: Uint8Array }) {
        chunks.push(bytes)
        expect(Buffer.compare(bytes, payload.subarray(offset, offset + bytes.length)) === 0, 'other bytes')
      },
    }
    return fetchFile(
      { source: URL_OF_FILE },
      {
        sink,
        cache: openChunkCache({ storage, budget: 2 ** 24 }),
        http: { fetch: fetch as typeof globalThis.fetch },
        retry: { attempts: 1 },
      },
    ).then(() => chunks.reduce((sum, { length }) => sum + length, 0))
  }
  await load()
  for (const key of entries().keys()) {
    if (random() < 0.6) continue
    const [cacheName, address] = key.split('|')
    const cache = await storage.open(cacheName)
    const info = { name: 'x', headBytes: 9, payloadBytes: 99, chunkBytes: 65536, lastUsed: 1 }
    const body = pick(random, [
      jsonBytes(random, mutated(random, info)),
      new Uint8Array(below(random, 70_000)),
      new TextEncoder().encode(mutatedText(random, head.rootHash)),
    ])
    const target =
      random() < 0.3 ? `${address}${pick(random, ['', '0', '-1', 'x', '9'.repeat(20)])}` : address
    await cache.put(target, new Response(body))
  }
  const cache = openChunkCache({ storage, budget: 2 ** 24 })
  for (const file of await cache.list()) {
    const sizes = [file.fileBytes, file.cachedBytes, file.lastUsed]
    expect(sizes.every(Number.isFinite) && typeof file.name === 'string', JSON.stringify(file))
  }
  expect(Number.isFinite((await cache.usage()).bytes), 'usage is no number')
  expect((await load()) === payload.length, 'not the whole payload')
}

export const fuzz = fuzzOf(
  [registry, manifest, modelFile, hubName, link, headers, cacheEntries],
  ['format', 'limit', 'input', 'network'],
)
