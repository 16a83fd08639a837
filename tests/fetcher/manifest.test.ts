import { afterEach, expect, test, vi } from 'vitest'
import { dtypeIn, type ModelManifest, readModelManifest, weightsRequest } from '../../src/fetcher/manifest.ts'

const folder = 'https://models.example/demo/'
const manifest = {
  version: 1,
  weights: { file: 'base.trit', bytes: 100, rootHash: 'a'.repeat(64) },
  graphs: ['onnx/model.onnx'],
  dtype: 'fp32',
}

function withParts(parts: unknown) {
  return { ...manifest, weights: { ...manifest.weights, parts } }
}

afterEach(() => vi.unstubAllGlobals())

function answer(body: string | null, init?: ResponseInit): void {
  vi.stubGlobal('fetch', async () => new Response(body, init))
}

test.each([400, 401, 403, 404, 410])('a folder whose server answers %i has no manifest', async (status) => {
  answer('<Error><Code>AccessDenied</Code></Error>', { status })
  expect(await readModelManifest(folder)).toBeUndefined()
})

test('the page of a single-page app is no manifest', async () => {
  answer('<!doctype html>', { headers: { 'Content-Type': 'text/html; charset=utf-8' } })
  expect(await readModelManifest(folder)).toBeUndefined()
})

test.each([429, 500, 503])('a server that answers %i may have one', async (status) => {
  answer(null, { status })
  await expect(readModelManifest(folder)).rejects.toMatchObject({ tag: 'network', fields: { status } })
})

test('reads a manifest', async () => {
  answer(JSON.stringify(manifest))
  expect(await readModelManifest(folder)).toEqual({ ...manifest, isCopy: false })
})

test.each([
  ['null', 'found null'],
  ['[]', 'found a list'],
  ['7', 'found a number'],
  ['{}', 'expected version 1'],
  ['{"version":1}', 'weights file'],
  ['{"version":1,"weights":null}', 'weights file'],
  [JSON.stringify({ ...manifest, weights: { ...manifest.weights, file: 'http://[' } }), 'weights file'],
  [JSON.stringify({ ...manifest, weights: { ...manifest.weights, bytes: -1 } }), 'size'],
  [JSON.stringify({ ...manifest, weights: { ...manifest.weights, rootHash: ['a'.repeat(64)] } }), 'SHA-256'],
  [JSON.stringify({ ...manifest, dtype: 1 }), 'dtype'],
  [JSON.stringify({ ...manifest, graphs: 'onnx/model.onnx' }), 'list of files'],
  [JSON.stringify({ ...manifest, graphs: [null] }), 'list of files'],
  [JSON.stringify(withParts([{ file: 'a', bytes: 99 }])), 'have 99 bytes of 100'],
  [
    JSON.stringify(
      withParts([
        { file: 'a', bytes: 200 },
        { file: 'b', bytes: -100 },
      ]),
    ),
    'files with sizes',
  ],
  [JSON.stringify(withParts([{ file: 'http://[', bytes: 100 }])), 'files with sizes'],
  [JSON.stringify(withParts([null])), 'files with sizes'],
  [JSON.stringify({ ...manifest, dtypes: [1] }), 'dtypes'],
  ['<!doctype html><title>App</title>', 'HTML'],
  ['version https://git-lfs.github.com/spec/v1\noid sha256:00', 'Git LFS pointer'],
  ['\uFFFF{', 'not JSON'],
])('refuses %s as a manifest', async (body, said) => {
  answer(body)
  await expect(readModelManifest(folder)).rejects.toMatchObject({
    tag: 'format',
    message: expect.stringContaining(said),
  })
})

test('weights in parts are asked for under absolute addresses', () => {
  const parts = [
    { file: 'base.trit.0', bytes: 60 },
    { file: 'base.trit.1', bytes: 40 },
  ]
  expect(weightsRequest(withParts(parts) as ModelManifest, folder)).toEqual({
    source: `${folder}base.trit`,
    parts: [
      { url: `${folder}base.trit.0`, bytes: 60 },
      { url: `${folder}base.trit.1`, bytes: 40 },
    ],
    rootHash: manifest.weights.rootHash,
    kind: 'base',
  })
})

test('of several dtypes one can be asked for; where there is one, it is that', () => {
  const several = { ...manifest, dtypes: ['fp32', 'fp16'] } as ModelManifest
  expect(dtypeIn(several, undefined)).toBe('fp32')
  expect(dtypeIn(several, 'fp16')).toBe('fp16')
  expect(() => dtypeIn(several, 'q4')).toThrow(/prepared as fp32 and fp16/)
  expect(dtypeIn(manifest as ModelManifest, 'q4')).toBe('fp32')
})

test('refuses brackets without end before it parses them', async () => {
  answer('['.repeat(100_000))
  await expect(readModelManifest(folder)).rejects.toMatchObject({ tag: 'limit' })
})
