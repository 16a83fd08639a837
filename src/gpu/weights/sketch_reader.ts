import { TritswapError } from '../../errors.ts'
import { type BlocksTensor, sketchPositions, tilingOf, weightsOf } from '../../format/index.ts'
import { SKETCH_VALUES } from '../../format/table.ts'
import { Batch, readBuffer } from '../batch.ts'
import type { Gpu } from '../device.ts'
import { type Kernel, kernelOf, targetKernels } from '../kernel.ts'
import { createBuffers } from '../memory.ts'
import type { TargetDtype } from '../target.ts'
import { nbitsParams } from './params.ts'
import type { BufferPlacement, QuantizedPlacement } from './placements.ts'

/** A tensor whose sketch is to be read. */
export interface SketchedTensor {
  name: string
  /** The name that determines the positions. */
  seed: string
  shape: readonly number[]
  /** Where its values are, as floats or quantized. */
  source: BufferPlacement | { tensor: BlocksTensor; placements: readonly QuantizedPlacement[] }
}

interface Position {
  row: number
  col: number
}

/** Reads the weights at the sketch positions of tensors as they are in VRAM now. */
export class SketchReader {
  readonly #gpu: Gpu
  readonly #gather: Record<TargetDtype, Kernel>
  readonly #gatherNBits: Kernel

  static async create(gpu: Gpu): Promise<SketchReader> {
    const [{ gather }, gatherNBits] = await Promise.all([
      targetKernels(gpu, ['gather']),
      kernelOf(gpu, 'gather_nbits'),
    ])
    return new SketchReader(gpu, gather, gatherNBits)
  }

  private constructor(gpu: Gpu, gather: Record<TargetDtype, Kernel>, gatherNBits: Kernel) {
    this.#gpu = gpu
    this.#gather = gather
    this.#gatherNBits = gatherNBits
  }

  /** 8 values a tensor, in the order given. @throws {TritswapError} `mapping`, `memory` */
  async read(tensors: readonly SketchedTensor[]): Promise<Float32Array<ArrayBuffer>> {
    if (tensors.length === 0) return new Float32Array()
    const size = tensors.length * SKETCH_VALUES * 4
    const [values] = await createBuffers(this.#gpu, 'sketch values', [size])
    try {
      const batch = new Batch(this.#gpu)
      for (const [i, tensor] of tensors.entries()) this.#record(batch, tensor, values, i * SKETCH_VALUES)
      batch.submit()
      return new Float32Array(await readBuffer(this.#gpu, values, 0, size))
    } finally {
      values.destroy()
    }
  }

  #record(batch: Batch, { name, seed, shape, source }: SketchedTensor, values: GPUBuffer, first: number) {
    const { cols } = tilingOf(shape)
    const positions = sketchPositions(seed, weightsOf(shape)).map((flat) => ({
      row: Math.floor(flat / cols),
      col: flat % cols,
    }))
    if ('placements' in source) {
      this.#recordQuantized(batch, name, source, positions, values, first)
      return
    }
    const { buffer, dtype, offset, rowStride, colStride } = source
    const elements = positions.map(({ row, col }) => offset + row * rowStride + col * colStride)
    const bindings = { weights: { buffer }, values: { buffer: values } }
    batch.dispatch(this.#gather[dtype], bindings, { elements, first }, SKETCH_VALUES)
  }

  #recordQuantized(
    batch: Batch,
    name: string,
    { tensor, placements }: Exclude<SketchedTensor['source'], BufferPlacement>,
    positions: readonly Position[],
    values: GPUBuffer,
    first: number,
  ): void {
    const byComponent = new Map(placements.map((placement) => [placement.component, placement]))
    const weights = byComponent.get('weights')
    const scales = byComponent.get('scales')
    const zeros = byComponent.get('zeroPoints') ?? scales
    if (weights === undefined || scales === undefined || zeros === undefined) {
      // Only with a binding table written by hand: the graph needs all components.
      throw new TritswapError('mapping', `Cannot read ${name}: its quantized weights are not all in VRAM`, {
        fields: { tensor: name },
      })
    }
    const bindings = {
      quantized: { buffer: weights.buffer },
      scales: { buffer: scales.buffer },
      zeros: { buffer: zeros.buffer },
      values: { buffer: values },
    }
    const nbits = {
      ...nbitsParams(tensor),
      quantized_at: weights.offset / 4,
      scales_at: scales.offset / 4,
      zeros_at: zeros.offset / 4,
    }
    const inMatrix = tensor.transposed ? positions.map(({ row, col }) => ({ row: col, col: row })) : positions
    const params = {
      nbits,
      rows: inMatrix.map(({ row }) => row),
      cols: inMatrix.map(({ col }) => col),
      first,
    }
    batch.dispatch(this.#gatherNBits, bindings, params, SKETCH_VALUES)
  }
}
