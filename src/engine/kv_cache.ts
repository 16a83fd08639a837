import { DynamicCache, Tensor } from '@xenova/transformers'

/** A tensor of onnxruntime-web on the GPU. */
interface GpuTensor {
  gpuBuffer: GPUBuffer
  type: string
  constructor: { fromGpuBuffer(buffer: GPUBuffer, options: object): never }
}

const BYTES: Record<string, number> = { float32: 4, float16: 2 }

/** What a model has read, kept between calls. One call at a time may use it. */
export class KvCache {
  /** As transformers.js fills it. */
  readonly tensors = new DynamicCache()
  readonly #device: GPUDevice | undefined
  #ids: number[] = []
  /** Which set of experts read each of them. */
  #readers: string[] = []

  /** @param device - that of tensors on the GPU */
  constructor(device?: GPUDevice) {
    this.#device = device
  }

  /** Tokens that were read. */
  get length(): number {
    return this.#ids.length
  }

  /** Whether it holds nothing, as that of a graph without a cache always does. */
  get isEmpty(): boolean {
    return Object.keys(this.tensors).length === 0
  }

  /** Takes the caches among the outputs of a pass, by transformers.js' names. @returns the other outputs */
  take(outputs: Readonly<Record<string, Tensor>>): Tensor[] {
    const isCache = (name: string) => name.startsWith('present')
    const caches = Object.entries(outputs).filter(([name]) => isCache(name))
    this.tensors.update(Object.fromEntries(caches.map(([name, tensor]) => [pastName(name), tensor])))
    return Object.entries(outputs).flatMap(([name, tensor]) => (isCache(name) ? [] : [tensor]))
  }

  /** Notes which set of experts read what was read since the last note. */
  noteReader(reader: string): void {
    while (this.#readers.length < this.#ids.length) this.#readers.push(reader)
  }

  /** Notes that all of these tokens are in it now, the first of which were in it before. */
  noteRead(ids: readonly number[]): void {
    for (let at = this.#ids.length; at < ids.length; at++) this.#ids.push(ids[at])
  }

  /**
   * Forgets what is not a beginning of `ids`, of which at least the last token is then left to read.
   * @param keeps - whether what a set of experts read at a position may stay
   */
  async rewindTo(
    ids: readonly number[],
    keeps: (position: number, reader: string) => boolean = () => true,
  ): Promise<void> {
    let common = 0
    const most = Math.min(this.#ids.length, ids.length - 1)
    while (common < most && this.#ids[common] === ids[common] && keeps(common, this.#readers[common] ?? ''))
      common++
    if (common === this.#ids.length) return
    if (common === 0 || !this.#cut(common)) return this.clear()
    this.#ids.length = common
    this.#readers.length = Math.min(this.#readers.length, common)
  }

  async clear(): Promise<void> {
    this.#ids = []
    this.#readers = []
    await this.tensors.dispose()
    for (const name of Object.keys(this.tensors)) delete this.tensors[name]
  }

  /** Cuts all tensors to a length. @returns whether they have the form that allows it */
  #cut(length: number): boolean {
    const cut: Record<string, Tensor> = {}
    for (const [name, tensor] of Object.entries(this.tensors)) {
      const isSequence = name.startsWith('past_key_values.') && tensor.dims.length === 4
      if (!isSequence || tensor.dims[2] !== this.#ids.length) return false
      const shorter =
        tensor.location === 'gpu-buffer' ? this.#cutOnGpu(tensor, length) : cutOnCpu(tensor, length)
      if (shorter === undefined) return false
      cut[name] = shorter
    }
    this.tensors.update(cut)
    return true
  }

  #cutOnGpu(tensor: Tensor, length: number): Tensor | undefined {
    const {
      gpuBuffer: from,
      type,
      constructor: OrtTensor,
    } = (tensor as unknown as { ort_tensor: GpuTensor }).ort_tensor
    const [batch, heads, before, size] = tensor.dims
    const row = size * (BYTES[type] ?? 0)
    // What WebGPU copies begins and ends at multiples of 4.
    if (this.#device === undefined || row === 0 || (before * row) % 4 !== 0 || (length * row) % 4 !== 0)
      return undefined
    const bytes = batch * heads * length * row
    const to = this.#device.createBuffer({
      size: Math.ceil(bytes / 16) * 16,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    })
    const encoder = this.#device.createCommandEncoder()
    for (let head = 0; head < batch * heads; head++) {
      encoder.copyBufferToBuffer(from, head * before * row, to, head * length * row, length * row)
    }
    this.#device.queue.submit([encoder.finish()])
    const dims = [batch, heads, length, size]
    return new Tensor(OrtTensor.fromGpuBuffer(to, { dataType: type, dims, dispose: () => to.destroy() }))
  }
}

/** The input that takes an output: `present.0.key` is `past_key_values.0.key`, but `present_conv.0` is `past_conv.0`. */
function pastName(output: string): string {
  return output.replace(/^present(?=_)/, 'past').replace(/^present/, 'past_key_values')
}

function cutOnCpu(tensor: Tensor, length: number): Tensor {
  return tensor.slice(null, null, [0, length], null)
}
