/**
 * Experts beside the weights in ordinary memory: the same plans and inputs as on a GPU, unpacked by the reference
 * decoder. The page never imports it.
 *
 * @module
 */
import { floatsToHalves, halvesToFloats } from '../format/float16.ts'
import { readHead, type TritTable, tilingOf, weightsOf } from '../format/index.ts'
import type { ResidentExpert, UnpackedPart, UnpackRequest } from '../gpu/index.ts'
import {
  BypassBuffers,
  type BypassEntry,
  type BypassFeed,
  planBypass,
  type Unpacks,
} from '../model/bypass_buffers.ts'
import { type BindingChoice, type BoundWeights, bindExpert, SiteIndex } from '../model/expert_bindings.ts'
import { addBypass, type BypassGraph } from '../onnx/index.ts'
import type { ByteSource } from '../source/source.ts'
import { readValues } from './weights.ts'

/** A graph input on the CPU; f16 as raw bits. */
export interface BypassCpuFeed {
  dtype: 'float32' | 'float16' | 'uint8'
  dims: readonly number[]
  data: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
}

/** An expert with its values. */
export interface ReferenceExpert {
  table: TritTable
  values: readonly Float32Array[]
}

export async function readExpert(source: ByteSource): Promise<ReferenceExpert> {
  const head = await readHead(source)
  const values: Float32Array[] = []
  for (const tensor of head.table.tensors) values.push(await readValues(source, head, tensor))
  return { table: head.table, values }
}

/** A variant of a graph with what feeds it. */
export interface CpuBypass {
  bytes: Uint8Array
  feeds: ReadonlyMap<string, BypassCpuFeed>
}

/**
 * Variants of the graphs of a model for a set of experts.
 * @returns them by file, those that stay as they are left out; and which tensors of each expert are to be merged
 * @throws {TritswapError} as {@link bindExpert}
 */
export async function bypassOnCpu(
  graphs: readonly BypassGraph[],
  experts: readonly { expert: ReferenceExpert; weight: number }[],
  choice: BindingChoice,
  weights: BoundWeights,
): Promise<{ variants: Map<string, CpuBypass>; merged: ReadonlySet<number>[] }> {
  const sites = new SiteIndex(graphs.map((graph) => [graph.file, graph]))
  const values = new Map<ResidentExpert, readonly Float32Array[]>()
  const entries = experts.map(({ expert, weight }): BypassEntry => {
    const resident = { table: expert.table, evicted: false } as unknown as ResidentExpert
    values.set(resident, expert.values)
    return { expert: resident, weight, binding: bindExpert(expert.table, choice, weights, sites) }
  })
  const variants = Array.from(planBypass(entries), ([file, plan]) => {
    const graph = graphs.find((candidate) => candidate.file === file) as BypassGraph
    return { file, plan, ...addBypass(graph, plan.slots) }
  })
  const buffers = new BypassBuffers(new ReferenceUnpacker(values), Number.POSITIVE_INFINITY)
  const { feeds } = await buffers.fill(new Map(variants.map(({ file, ...variant }) => [file, variant])))
  return {
    variants: new Map(
      variants.map(({ file, bytes }) => [file, { bytes, feeds: cpuFeeds(feeds.get(file)!) }]),
    ),
    merged: entries.map(({ binding }) => binding.merged),
  }
}

function cpuFeeds(feeds: ReadonlyMap<string, BypassFeed<CpuBuffer>>): Map<string, BypassCpuFeed> {
  return new Map(
    Array.from(feeds, ([name, { dtype, dims, buffer }]) => [
      name,
      { dtype, dims, data: buffer.data.subarray(0, weightsOf(dims)) },
    ]),
  )
}

class CpuBuffer {
  readonly data: BypassCpuFeed['data']

  constructor(data: BypassCpuFeed['data']) {
    this.data = data
  }

  get size(): number {
    return this.data.byteLength
  }

  destroy(): void {}
}

class ReferenceUnpacker implements Unpacks<CpuBuffer> {
  readonly #values: ReadonlyMap<ResidentExpert, readonly Float32Array[]>

  constructor(values: ReadonlyMap<ResidentExpert, readonly Float32Array[]>) {
    this.#values = values
  }

  async unpack(requests: readonly UnpackRequest[]): Promise<CpuBuffer[]> {
    return requests.map((request) => new CpuBuffer(this.#fill(request)))
  }

  #fill(request: UnpackRequest): BypassCpuFeed['data'] {
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
    const half = (floats: Float32Array<ArrayBuffer>) =>
      request.dtype === 'float16' ? floatsToHalves(floats) : floats
    if (request.kind === 'values') return half(Float32Array.from(request.values))
    const floats = new Float32Array(request.count).fill(request.from)
    for (const part of request.parts) {
      this.#visit(part, (element, value) => {
        floats[element] += part.weight * value
        // Every step is rounded there as well.
        if (request.dtype === 'float16')
          [floats[element]] = halvesToFloats(floatsToHalves(floats.slice(element, element + 1)))
      })
    }
    return half(floats)
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
