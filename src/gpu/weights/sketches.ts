import { TritswapError } from '../../errors.ts'
import type { SectionForm } from '../../format/codecs/codec.ts'
import { SKETCH_VALUES, sketchPositions, tilingOf, weightsOf } from '../../format/index.ts'
import { Batch, readBuffer } from '../batch.ts'
import { checked } from '../checked.ts'
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
  source: BufferPlacement | { form?: SectionForm; placements: readonly QuantizedPlacement[] }
}

interface GatherKernels {
  gather: Record<TargetDtype, Kernel>
  gatherNBits: Kernel
}

/**
 * The weights at the sketch positions of tensors as they are in VRAM now: 8 values a tensor, in the order given.
 * @throws {TritswapError} `mapping` for a quantized tensor that lacks a component, `memory`
 */
export async function readSketches(
  gpu: Gpu,
  tensors: readonly SketchedTensor[],
): Promise<Float32Array<ArrayBuffer>> {
  if (tensors.length === 0) return new Float32Array()
  const dtypes = new Set(tensors.flatMap(({ source }) => ('buffer' in source ? source.dtype : [])))
  const [{ gather }, gatherNBits] = await Promise.all([
    targetKernels(gpu, ['gather'], dtypes),
    kernelOf(gpu, 'gather_nbits'),
  ])
  const size = tensors.length * SKETCH_VALUES * 4
  const [values] = await createBuffers(gpu, 'sketch values', [size])
  try {
    await checked(gpu, 'read weights', () => {
      const batch = new Batch(gpu)
      for (const [i, tensor] of tensors.entries())
        record(batch, { gather, gatherNBits }, tensor, values, i * SKETCH_VALUES)
      batch.submit()
    })
    return new Float32Array(await readBuffer(gpu, values, 0, size))
  } finally {
    values.destroy()
  }
}

function record(
  batch: Batch,
  { gather, gatherNBits }: GatherKernels,
  { name, seed, shape, source }: SketchedTensor,
  values: GPUBuffer,
  first: number,
): void {
  const flat = sketchPositions(seed, weightsOf(shape))
  const { cols: width } = tilingOf(shape)
  const rows = flat.map((at) => Math.floor(at / width))
  const cols = flat.map((at) => at % width)
  if ('buffer' in source) {
    const { buffer, dtype, offset, rowStride, colStride } = source
    const elements = rows.map((row, i) => offset + row * rowStride + cols[i] * colStride)
    const bindings = { weights: { buffer }, values: { buffer: values } }
    batch.dispatch(gather[dtype], bindings, { elements, first }, SKETCH_VALUES)
    return
  }
  const { form, placements } = source
  const byComponent = new Map(placements.map((placement) => [placement.component, placement]))
  const weights = byComponent.get('weights')
  const scales = byComponent.get('scales')
  const zeros = byComponent.get('zeroPoints') ?? byComponent.get('minimums') ?? scales
  if (form?.kind !== 'nbits' || !weights || !scales || !zeros) {
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
    ...nbitsParams(shape, form.code),
    quantized_at: weights.offset / 4,
    scales_at: scales.offset / 4,
    zeros_at: zeros.offset / 4,
  }
  // The kernel reads the quantized matrix, whose rows are the columns of a transposed tensor.
  const inMatrix = form.code.transposed ? { rows: cols, cols: rows } : { rows, cols }
  batch.dispatch(gatherNBits, bindings, { nbits, ...inMatrix, first }, SKETCH_VALUES)
}
