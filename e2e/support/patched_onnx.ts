import { readFileSync } from 'node:fs'
import { bindingsFrom, decodeValues, readHead, readSection, tilingOf } from '../../src/format/index.ts'
import { parseModel, serializeModel } from '../../src/onnx/proto/model.ts'
import { memorySource } from '../../src/source/memory.ts'

/** A file with the interface of a source. */
export const fileSource = (path: string) => memorySource(readFileSync(path), path)

/**
 * The plain f32 ONNX of the base with an expert added to its initializers, by the reference decoder and f32
 * arithmetic: what an activated expert must compute.
 *
 * @param basePath - the prepared base's `weights.trit`, for its binding table
 */
export async function patchedOnnx(
  onnxPath: string,
  basePath: string,
  expertPath: string,
): Promise<Uint8Array> {
  const base = await readHead(fileSource(basePath))
  const [{ inputs }] = bindingsFrom(base.table.bindings, base.table.tensors).graphs
  const source = fileSource(expertPath)
  const expert = await readHead(source)
  const model = parseModel(readFileSync(onnxPath), onnxPath)

  for (const tensor of expert.table.tensors) {
    const section = await readSection(source, expert, tensor)
    const delta = decodeValues(tensor, section)
    const { cols } = tilingOf(tensor.shape)
    for (const input of inputs) {
      for (const part of input.parts.filter((placement) => placement.tensor === tensor.target)) {
        const initializer = model.graph?.initializer.find(({ name }) => name === input.name)
        if (!initializer) throw new Error(`the plain graph has no initializer ${input.name}`)
        const data = initializer.rawData as Uint8Array
        const values = new Float32Array(data.slice().buffer)
        for (let i = 0; i < delta.length; i++) {
          const at = part.offset + Math.floor(i / cols) * part.rowStride + (i % cols) * part.colStride
          values[at] = Math.fround(values[at] + delta[i])
        }
        initializer.rawData = new Uint8Array(values.buffer)
      }
    }
  }
  return serializeModel(model)
}
