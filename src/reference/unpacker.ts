import { floatsToHalves, halvesToFloats } from '../format/float16.ts'
import { tilingOf } from '../format/index.ts'
import type { ResidentExpert, UnpackedPart, UnpackRequest } from '../gpu/index.ts'
import type { Unpacks } from '../model/bypass_buffers.ts'
import type { CpuFeed } from './graph_feeds.ts'

/** Counterpart of a GPUBuffer. */
export class CpuBuffer {
  readonly data: CpuFeed['data']

  constructor(data: CpuFeed['data']) {
    this.data = data
  }

  get size(): number {
    return this.data.byteLength
  }

  destroy(): void {}
}

/** Fills buffers with experts' tensors as the GPU's `Unpacker` does, rounding where it rounds. */
export class ReferenceUnpacker implements Unpacks<CpuBuffer> {
  readonly #values: ReadonlyMap<ResidentExpert, readonly Float32Array[]>

  /** @param values - of each expert's tensors, in table order */
  constructor(values: ReadonlyMap<ResidentExpert, readonly Float32Array[]>) {
    this.#values = values
  }

  async unpack(requests: readonly UnpackRequest[]): Promise<CpuBuffer[]> {
    return requests.map((request) => new CpuBuffer(this.#fill(request)))
  }

  #fill(request: UnpackRequest): CpuFeed['data'] {
    if (request.kind === 'codes') {
      const codes = new Uint8Array(Math.ceil(request.fields / 4)).fill(0xaa)
      for (const part of request.parts) {
        this.#visit(part, (field, value) => {
          const shift = 2 * (field & 3)
          codes[field >>> 2] = (codes[field >>> 2] & ~(3 << shift)) | ((2 + Math.sign(value)) << shift)
        })
      }
      return codes
    }
    const stored = (floats: Float32Array<ArrayBuffer>) =>
      request.dtype === 'float16' ? floatsToHalves(floats) : floats
    if (request.kind === 'values') return stored(Float32Array.from(request.values))
    const floats = new Float32Array(request.count).fill(request.from)
    for (const part of request.parts) {
      this.#visit(part, (element, value) => {
        floats[element] += part.weight * value
        if (request.dtype === 'float16')
          [floats[element]] = halvesToFloats(floatsToHalves(floats.slice(element, element + 1)))
      })
    }
    return stored(floats)
  }

  #visit(
    { expert, index, offset, rowStride, colStride }: UnpackedPart,
    each: (at: number, value: number) => void,
  ): void {
    const values = this.#values.get(expert)![index]
    const { rows, cols } = tilingOf(expert.table.tensors[index].shape)
    for (let row = 0, i = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++, i++) {
        if (values[i] !== 0) each(offset + row * rowStride + col * colStride, values[i])
      }
    }
  }
}
