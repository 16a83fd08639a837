import { TritswapError } from '../errors.ts'
import { checked } from './checked.ts'
import type { Gpu } from './device.ts'

/** onnxruntime-web binds buffers whose size is a multiple of this. */
export const BUFFER_ALIGNMENT = 16

/** Bytes of the largest buffer that a kernel can bind as a whole. */
export function largestBuffer({ device }: Gpu): number {
  return Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize)
}

/** @throws {TritswapError} `memory` for more bytes than one buffer can have */
export function checkSize(gpu: Gpu, what: string, bytes: number): void {
  const limit = largestBuffer(gpu)
  if (bytes <= limit) return
  throw new TritswapError(
    'memory',
    `Cannot keep ${what} in VRAM: it takes ${bytes} bytes and this GPU binds at most ${limit}`,
    {
      fields: { what, bytes, limit },
    },
  )
}

/**
 * Creates storage buffers of these sizes in bytes, all or none.
 * @param what - they are for; part of the error's text
 * @throws {TritswapError} `memory` when one is over the device's limit or VRAM runs out
 */
export async function createBuffers(gpu: Gpu, what: string, sizes: readonly number[]): Promise<GPUBuffer[]> {
  for (const size of sizes) checkSize(gpu, what, size)
  if (sizes.length === 0) return []
  const { device } = gpu
  const buffers: GPUBuffer[] = []
  try {
    await checked(gpu, `keep ${what} in VRAM`, () => {
      for (const size of sizes) {
        const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
        buffers.push(device.createBuffer({ label: what, size, usage }))
      }
    })
    return buffers
  } catch (error) {
    for (const buffer of buffers) buffer.destroy()
    throw error
  }
}
