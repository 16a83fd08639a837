import { type FileHandle, open } from 'node:fs/promises'
import { ELEMENT_BYTES, weightsOf } from '../format/index.ts'
import type { StoredInput } from '../onnx/index.ts'
import type { StreamedWeights, WeightChange } from '../reference/index.ts'
import { FileBytes } from './file_bytes.ts'

/** Where each input begins: what wasm's vector loads like. */
const ALIGNMENT = 64

/**
 * The weights of one graph as the graph takes them, in a scratch file that sessions load. Between two variants only the
 * inputs that differ are written anew.
 */
export class WeightsFile {
  readonly inputs: readonly StoredInput[]
  /** The file as a session takes it. */
  readonly bytes: FileBytes
  readonly #weights: StreamedWeights
  readonly #graph: string
  readonly #file: FileHandle
  /** Inputs that are not the base's, by name. */
  readonly #changed = new Set<string>()
  #isWritten = false

  private constructor(weights: StreamedWeights, graph: string, inputs: StoredInput[], file: FileHandle) {
    this.#weights = weights
    this.#graph = graph
    this.inputs = inputs
    this.#file = file
    const last = inputs.at(-1)
    this.bytes = new FileBytes(file.fd, last === undefined ? 0 : last.offset + last.bytes)
  }

  /** @param graph - path of the graph in the model folder */
  static async create(path: string, weights: StreamedWeights, graph: string): Promise<WeightsFile> {
    const inputs: StoredInput[] = []
    let end = 0
    for (const { name, dtype, dims } of weights.inputsOf(graph)) {
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT
      const bytes = weightsOf(dims) * ELEMENT_BYTES[dtype]
      inputs.push({ name, dtype, dims, offset, bytes })
      end = offset + bytes
    }
    return new WeightsFile(weights, graph, inputs, await open(path, 'w+'))
  }

  /** Makes the file hold the base's weights with a change, or without. @throws {TritswapError} what reading them throws */
  async bring(change?: WeightChange): Promise<void> {
    for (const [i, input] of this.#weights.inputsOf(this.#graph).entries()) {
      const { name } = input
      const isChanged = this.#weights.isChanged(input, change)
      if (this.#isWritten && !isChanged && !this.#changed.has(name)) continue
      // Until all of it is written it is neither the base's nor the variant's.
      this.#changed.add(name)
      const { data } = await this.#weights.fill(input, isChanged ? change : undefined)
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      const { offset } = this.inputs[i]
      for (let at = 0; at < bytes.length; )
        at += (await this.#file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten
      if (!isChanged) this.#changed.delete(name)
    }
    this.#isWritten = true
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
