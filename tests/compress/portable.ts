import { compressCheckpoint } from '../../src/compress/index.ts'
import { sha256, toHex } from '../../src/format/index.ts'
import { blobSource } from '../../src/source/memory.ts'
import { safetensors } from './checkpoints.ts'

/** What {@link compressSample} makes, on every platform. */
export const SAMPLE_SHA256 = '4e893db61fe3a4194fa5fc6b754467d8a8a9e87a9ab968c553822a388d3c9119'

/** Compresses a small fine-tuning of two matrices and a vector from blobs; returns the SHA-256 of the file. */
export async function compressSample(): Promise<string> {
  const wave = (count: number, speed: number) =>
    Float32Array.from({ length: count }, (_, i) => Math.fround(((i * speed) % 257) / 257 - 0.5))
  const checkpoint = (delta: number) => {
    const tensor = (shape: number[], speed: number) => {
      const values = wave(shape[0] * (shape[1] ?? 1), speed)
      const tau = wave(values.length, speed + 12)
      return { shape, values: values.map((value, i) => value + delta * tau[i]), dtype: 'F16' as const }
    }
    const tensors = { a: tensor([130, 70], 31), b: tensor([64, 200], 57), norm: tensor([96], 5) }
    return blobSource(new Blob([safetensors(tensors)]), 'sample.safetensors')
  }
  const { file } = await compressCheckpoint({
    base: checkpoint(0),
    finetuned: checkpoint(0.25),
    options: { density: 0.1 },
  })
  return toHex(await sha256(file))
}
