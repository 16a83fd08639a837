import { Batch, readBuffer, STRIDING_INVOCATIONS } from '../batch.ts'
import { checked } from '../checked.ts'
import type { Gpu } from '../device.ts'
import { kernelOf } from '../kernel.ts'
import { BUFFER_ALIGNMENT, createBuffers } from '../memory.ts'

/** 16 hex digits over all words of the buffers and their order: any change of one word changes it. @throws {TritswapError} `memory`, `webgpu`, `device-lost` */
export async function checksumOf(gpu: Gpu, buffers: readonly GPUBuffer[]): Promise<string> {
  const kernel = await kernelOf(gpu, 'checksum')
  const [sums] = await createBuffers(gpu, 'a checksum', [BUFFER_ALIGNMENT])
  try {
    await checked(gpu, 'compute a checksum', () => {
      const batch = new Batch(gpu)
      for (const [seed, buffer] of buffers.entries()) {
        const words = buffer.size / 4
        batch.dispatch(
          kernel,
          { words: { buffer }, sums: { buffer: sums } },
          { words, seed },
          Math.min(words, STRIDING_INVOCATIONS),
          words,
        )
      }
      batch.submit()
    })
    const read = new Uint32Array(await readBuffer(gpu, sums, 0, kernel.storageBytes('sums')))
    return Array.from(read, (sum) => sum.toString(16).padStart(8, '0')).join('')
  } finally {
    sums.destroy()
  }
}
