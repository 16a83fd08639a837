import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openFile, openFolder } from '../../src/cli/file_source.ts'
import { openCheckpointAt } from '../../src/cli/inputs.ts'
import { openOnnxCheckpoint } from '../../src/cli/onnx_checkpoint.ts'
import { openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import { readFloats } from '../../src/compress/safetensors.ts'
import { memorySpool } from '../../src/format/index.ts'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import { opened } from '../compress/checkpoints.ts'

const ZOO = '../shared/onnx-zoo'
const Q = 'model.layers.0.self_attn.q_proj.weight'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tritswap-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('an ONNX folder as a checkpoint', () => {
  test.each(['llama-tiny', 'qwen2-tiny', 'gpt2-tiny', 'bert-tiny-classify'])(
    '%s has the values of its safetensors, in their layout',
    async (model) => {
      const onnx = await openOnnxCheckpoint(join(ZOO, model, 'onnx'))
      const { tensors } = await openCheckpoint(openFolder(join(ZOO, model)))
      expect(onnx.tensors.size).toBeGreaterThan(15)
      for (const [name, tensor] of onnx.tensors) {
        const stored = tensors.get(name)
        expect([name, tensor.shape]).toEqual([name, stored?.shape])
        const [found, expected] = await Promise.all([readFloats(tensor), readFloats(stored!)])
        expect([name, expected.findIndex((value, i) => value !== found[i])]).toEqual([name, -1])
      }
    },
  )

  test('two folders give the delta in checkpoint layout', async () => {
    // What training might do to row 3, columns 5 and 6 of a matrix that ONNX keeps transposed.
    const base = await openCheckpointAt(join(ZOO, 'llama-tiny/onnx'))
    const values = await readFloats(base.tensors.get(Q)!)
    const [rows, cols] = base.tensors.get(Q)!.shape
    const bytes = await readFile(join(ZOO, 'llama-tiny/onnx/model.onnx'))
    const model = parseModel(bytes, 'model.onnx')
    const target = model.graph!.initializer.find(({ rawData }) => {
      const stored = new Float32Array(rawData.slice().buffer)
      return stored.length === rows * cols && stored[1] === values[cols] && stored[rows] === values[1]
    })!
    const stored = new Float32Array(target.rawData.slice().buffer)
    stored[5 * rows + 3] += 0.5
    stored[6 * rows + 3] -= 0.25
    target.rawData = new Uint8Array(stored.buffer)
    await mkdir(join(folder, 'onnx'))
    await writeFile(join(folder, 'onnx/model.onnx'), serializeModel(model))

    const task = await fullTaskVector(base, await openCheckpointAt(folder))
    const spool = memorySpool()
    const { head } = await compressTaskVector(task, { dense: [Q], denseDtype: 'f32' }, { spool })
    const { parsed, decoded } = await opened(spool.join(head))
    expect(parsed.table.tensors.map(({ name }) => name)).toEqual([Q])
    expect(parsed.table.base.sketch).toHaveLength(8)
    expect(parsed.table.base.fingerprint).toBeUndefined()
    const delta = decoded.get(Q)!
    expect(Array.from(delta.keys()).filter((i) => delta[i] !== 0)).toEqual([3 * cols + 5, 3 * cols + 6])
    expect(delta[3 * cols + 5]).toBeCloseTo(0.5, 6)
  })

  test('quantized graphs are refused', async () => {
    const bytes = await readFile(join(ZOO, 'llama-tiny/onnx/model_q4.onnx'))
    await writeFile(join(folder, 'model.onnx'), bytes)
    await expect(openCheckpointAt(folder)).rejects.toMatchObject({
      tag: 'unsupported',
      message: /quantized.*fp32 or fp16/,
    })
  })

  test('safetensors come first where both are there', async () => {
    const { files } = await openCheckpointAt(join(ZOO, 'llama-tiny'))
    expect(files.map(({ name }) => name)).toEqual([join(ZOO, 'llama-tiny/model.safetensors')])
    expect(await (await openFile(files[0].name)).size()).toBe(2_493_840)
  })
})
