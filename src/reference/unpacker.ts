import type { TermVectors } from '../format/contributions.ts'
import { floatsToHalves, halvesToFloats } from '../format/float16.ts'
import { type Terms, tilingOf } from '../format/index.ts'
import type { ResidentExpert, UnpackedPart, UnpackRequest } from '../gpu/index.ts'
import type { Unpacks } from '../model/bypass_buffers.ts'
import type { ReferenceExpert } from './expert.ts'
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
  readonly #experts: ReadonlyMap<ResidentExpert, ReferenceExpert>

  constructor(experts: ReadonlyMap<ResidentExpert, ReferenceExpert>) {
    this.#experts = experts
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
    { expert, index, vectors, offset, rowStride, colStride }: UnpackedPart,
    each: (at: number, value: number) => void,
  ): void {
    const { values: all, terms } = this.#experts.get(expert)!
    const values = vectors === undefined ? all[index] : vectorsOf(terms!.get(index)!, vectors)
    const rows =
      vectors === undefined
        ? tilingOf(expert.table.tensors[index].shape).rows
        : terms!.get(index)!.scales.length
    const cols = values.length / rows
    for (let row = 0, i = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++, i++) {
        if (values[i] !== 0) each(offset + row * rowStride + col * colStride, values[i])
      }
    }
  }
}

/** One side of terms as a factor, terms × rows or terms × columns. */
function vectorsOf({ scales, x, y }: Terms, vectors: TermVectors): Float32Array {
  if (vectors === 'y') return Float32Array.from(y)
  const rows = x.length / scales.length
  return Float32Array.from(x, (entry, i) => entry * scales[Math.floor(i / rows)])
}
