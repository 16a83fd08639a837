import { openSync, readSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bindingsFrom } from '../../src/format/index.ts'
import {
  type GraphFile,
  hoistModel,
  OnnxGraph,
  readElements,
  weightBytes,
  weightPieces,
  weightTable,
} from '../../src/onnx/index.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { ZOO } from './graphs.ts'

/** A file as a server has it, with the requests that it took. */
function remoteFile(path: string) {
  const file = openSync(path, 'r')
  const requests: { offset: number; streamed: boolean }[] = []
  const at = (offset: number, length: number) => {
    const bytes = new Uint8Array(length)
    return bytes.subarray(0, readSync(file, bytes, 0, length, offset))
  }
  const source: ByteSource = {
    name: path,
    size: async () => (await stat(path)).size,
    async read(offset, length) {
      requests.push({ offset, streamed: false })
      return at(offset, length)
    },
    async *stream(offset, { end = Number.POSITIVE_INFINITY } = {}) {
      requests.push({ offset, streamed: true })
      for (let from = offset; from < end; from += 1 << 16) {
        const bytes = at(from, Math.min(1 << 16, end - from))
        if (bytes.length === 0) return
        yield bytes
      }
    },
  }
  return { source, requests }
}

async function graphs(model: string, files: readonly string[]) {
  const remotes = new Map<string, ReturnType<typeof remoteFile>>()
  const external = (location: string) => {
    const remote = remotes.get(location) ?? remoteFile(join(ZOO, model, 'onnx-genai', location))
    remotes.set(location, remote)
    return remote.source
  }
  const sources: GraphFile[] = []
  for (const file of files) {
    const graph = new OnnxGraph(file, new Uint8Array(await readFile(join(ZOO, model, file))))
    sources.push({ graph, external })
  }
  return { sources, remotes }
}

async function contents(pieces: ReturnType<typeof weightPieces>) {
  const byInput = new Map<string, Uint8Array[]>()
  for await (const { input = 'payload', offset, bytes } of pieces) {
    const before = byInput.get(input) ?? []
    expect(before.reduce((sum, { length }) => sum + length, 0)).toBe(offset)
    byInput.set(input, [...before, bytes])
  }
  return new Map(Array.from(byInput, ([input, parts]) => [input, Buffer.concat(parts)]))
}

test('a file beside the graph is read once, from front to back, by one request', async () => {
  const { sources, remotes } = await graphs('llama-tiny', ['onnx-genai/model.onnx'])
  const model = await hoistModel(sources)
  const [{ source, requests }] = remotes.values()
  requests.length = 0
  const found = await contents(weightPieces(model))
  expect(requests).toHaveLength(1)
  expect(requests[0].streamed).toBe(true)
  expect([...found.values()].reduce((sum, { length }) => sum + length, 0)).toBe(weightBytes(model))
  const [{ weights }] = model.graphs
  expect(found.size).toBe(weights.length)
  expect(weights.filter(({ data }) => data.source === source).length).toBeGreaterThan(5)
  for (const { input, data } of weights) {
    const values = await readElements(data, 0, data.length)
    expect(
      Buffer.compare(
        found.get(input.name) as Buffer,
        Buffer.from(values.buffer, values.byteOffset, values.byteLength),
      ),
    ).toBe(0)
  }
})

test('weights that two graphs share are brought once, and the table holds every tensor', async () => {
  const files = ['onnx/encoder_model.onnx', 'onnx/decoder_model_merged.onnx']
  const { sources } = await graphs('t5-tiny', files)
  const model = await hoistModel(sources)
  const found = await contents(weightPieces(model))
  const names = model.graphs.map(({ weights }) => weights.map(({ input }) => input.name))
  const shared = names[0].filter((name) => names[1].includes(name))
  expect(shared).toContain('embed_tokens.weight')
  expect(found.size).toBe(names[0].length + names[1].length - shared.length)
  const table = weightTable(model, { name: 't5' })
  expect(table.kind).toBe('base')
  const last = table.tensors[table.tensors.length - 1]
  expect(last.offset + last.bytes).toBe(table.tensors.reduce((sum, { bytes }) => sum + bytes, 0))
  expect(bindingsFrom(table.bindings, table.tensors).graphs.map(({ file }) => file)).toEqual(files)
})
