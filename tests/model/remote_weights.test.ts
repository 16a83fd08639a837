import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Answer, type FaultServer, startFaultServer } from '../../e2e/servers/fault_server.ts'
import { fetchGraph } from '../../src/model/graph_files.ts'
import { hoistModel, weightPieces } from '../../src/onnx/index.ts'

/** A graph that keeps its weights in a file beside it. */
const FOLDER = '../shared/onnx-zoo/llama-tiny/onnx-genai'

let server: FaultServer
let data: Uint8Array
beforeAll(async () => {
  server = await startFaultServer()
  server.files.set('/m/model.onnx', { bytes: await readFile(join(FOLDER, 'model.onnx')) })
  data = await readFile(join(FOLDER, 'model.onnx_data'))
})
afterAll(() => server.close())

/** Requests and bytes of the file with the weights, until all of them are read. */
async function readAll(script: () => Answer) {
  server.files.set('/m/model.onnx_data', { bytes: data, script })
  const source = await fetchGraph(`${server.url}/m/`, 'model.onnx')
  server.take()
  const model = await hoistModel([source], { quantized: 'float' })
  const pieces: Record<string, number> = {}
  for await (const { input = '', bytes } of weightPieces(model))
    pieces[input] = bytes.reduce((sum, byte) => (31 * sum + byte) >>> 0, pieces[input] ?? 0)
  return { ...server.take(), pieces }
}

test('weights beside a graph are fetched once, whatever the server makes of Range', async () => {
  const ranges = await readAll(() => ({}))
  // A few values of each tensor are looked at before: they tell its name, and what is tied.
  expect(ranges.bytes).toBeLessThan(1.02 * data.length)
  const whole = await readAll(() => ({ ignoreRange: true }))
  expect(whole).toEqual({ requests: 1, bytes: data.length, pieces: ranges.pieces })
})

test('a server that fails at first is asked again', async () => {
  let failures = 1
  const found = readAll(() => (failures-- > 0 ? { status: 404 } : {}))
  await expect(found).rejects.toMatchObject({ tag: 'network', fields: { status: 404 } })
  expect(Object.keys((await readAll(() => ({}))).pieces).length).toBeGreaterThan(10)
})

test.each([
  [
    'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2506752\n'.padEnd(130, '0'),
    /model\.onnx_data.*Git LFS pointer/,
  ],
  [`<!doctype html><title>App</title>${' '.repeat(500)}`, /model\.onnx_data.*HTML/],
])('weights that are %s are named', async (text, message) => {
  for (const ignoreRange of [false, true]) {
    const script = () => ({ ignoreRange })
    server.files.set('/m/model.onnx_data', { bytes: new TextEncoder().encode(text), script })
    const source = await fetchGraph(`${server.url}/m/`, 'model.onnx')
    await expect(hoistModel([source], { quantized: 'float' })).rejects.toMatchObject({
      tag: 'format',
      message: expect.stringMatching(message),
    })
  }
})
