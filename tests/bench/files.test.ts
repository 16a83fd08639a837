import { gunzipSync } from 'node:zlib'
import { beforeAll, expect, test } from 'vitest'
import { type PreparedFiles, prepareFiles } from '../../e2e/bench/files.ts'
import { benchOptions } from '../../e2e/bench/options.ts'
import { startFaultServer } from '../../e2e/servers/fault_server.ts'
import { fromHalf, readHead } from '../../src/format/index.ts'
import { parseModel } from '../../src/onnx/proto/model.ts'
import { OpenRegistry } from '../../src/route/open_registry.ts'
import { memorySource } from '../../src/source/memory.ts'

let prepared: PreparedFiles
beforeAll(async () => {
  // As a stranger has it: without the checkpoints that the experts were made from.
  prepared = await prepareFiles({ ...benchOptions([]), checkpoints: undefined }, 3)
})

const weightsOf = (folder: string) => {
  const { graph } = parseModel(prepared.files.get(`/peers/${folder}/onnx/model.onnx`)!, folder)
  return new Map(
    graph!.initializer
      .filter(({ dataType, rawData }) => dataType === 1 && rawData.length > 0)
      .map(({ name, rawData }) => [name, new Float32Array(rawData.slice().buffer)]),
  )
}

test('A and B are of the usual density, and copies are other files with the same content', () => {
  const { experts, copies } = prepared
  expect(experts.slice(0, 2).map(({ density }) => density)).toEqual([0.05, 0.05])
  expect(new Set(copies.map(({ rootHash }) => rootHash)).size).toBe(3)
  expect(copies.every(({ bytes }) => Math.abs(bytes - experts[0].bytes) < 100)).toBe(true)
})

test('the plain graphs hold the base, and the base with each delta', () => {
  const { peers } = prepared
  expect(peers.origin).toBe('decoded')
  const base = weightsOf('base')
  for (const [i, file] of peers.deltas.entries()) {
    const delta = new Uint16Array(prepared.files.get(file)!.slice().buffer)
    const full = weightsOf(`full-${i}`)
    let changed = 0
    for (const { input, offset, elements } of peers.deltaParts) {
      const [own, tuned] = [base.get(input)!, full.get(input)!]
      expect(own).toHaveLength(elements)
      for (let j = 0; j < elements; j++) {
        if (own[j] !== tuned[j]) changed++
        const off = Math.abs(tuned[j] - own[j] - fromHalf(delta[offset + j]))
        if (off > 1e-4) throw new Error(`${input}[${j}] is off by ${off}`)
      }
    }
    // The norms, which are not ternary, change more than 5 % of theirs.
    expect(changed / prepared.patchedWeights).toBeGreaterThan(0.04)
    expect(changed / prepared.patchedWeights).toBeLessThan(0.06)
  }
  expect(peers.deltaBytes).toBe(2 * prepared.patchedWeights)
})

test('the int8 delta is the delta, to half a step', () => {
  const { peers, files } = prepared
  const int8 = new Int8Array(gunzipSync(files.get(peers.int8)!))
  const half = new Uint16Array(files.get(peers.deltas[0])!.slice().buffer)
  for (const [i, { offset, elements }] of peers.deltaParts.entries()) {
    const step = peers.int8Scales[i]
    for (let j = offset; j < offset + elements; j++) {
      if (Math.abs(int8[j] * step - fromHalf(half[j])) > 0.51 * step) throw new Error(`element ${j} is off`)
    }
  }
})

test('a LoRA of rank 8 lies beside every patched matrix', () => {
  const { peers, files } = prepared
  const matrices = peers.deltaParts.filter(({ input }) =>
    peers.loraFactors.some((factor) => factor.input === `${input}.lora_A`),
  )
  expect(matrices).toHaveLength(42)
  expect(peers.loraFactors).toHaveLength(84)
  for (const { input, dims } of peers.loraFactors) expect(dims[input.endsWith('lora_A') ? 1 : 0]).toBe(8)
  // What the registry says of adapters of this shape.
  expect(files.get(peers.loraWeights[0])).toHaveLength(448_512)
  expect(peers.quantized).toBeUndefined()
})

test('the request finds the opening problem’s experts in their registries; the f16 adapter holds its factors as they are', async () => {
  const { opening, files, prompt, experts } = prepared
  const server = await startFaultServer()
  try {
    for (const [path, bytes] of files) if (path.startsWith('/opening/')) server.files.set(path, { bytes })
    for (const { registry, bytes } of [opening.adapter, opening.tuned]) {
      const opened = await OpenRegistry.open(`${server.url}${registry}`)
      const { chosen } = await opened.route(prompt)
      const { url, rootHash } = await opened.entry(chosen!.id)
      const file = new Uint8Array(await (await fetch(url)).arrayBuffer())
      expect(file).toHaveLength(bytes)
      expect((await readHead(memorySource(file))).rootHash).toBe(rootHash)
    }
  } finally {
    await server.close()
  }
  const { table, headBytes } = await readHead(memorySource(new Uint8Array(files.get(opening.f16.url)!)))
  expect(table.tensors.map(({ codec, role }) => `${codec} ${role}`)).toEqual(
    Array.from({ length: 84 }, (_, i) => `dense lora${i % 2 === 0 ? 'A' : 'B'}`),
  )
  expect(opening.f16.bytes - headBytes).toBe(448_512)
  expect(opening.adapter.bytes).toBeLessThan(opening.f16.bytes / 20)
  expect(opening.tuned.bytes).toBe(experts[0].bytes)
})
