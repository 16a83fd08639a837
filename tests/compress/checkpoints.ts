import { type FileFolder, openCheckpoint } from '../../src/compress/checkpoint.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { decodeTensor } from '../../src/compress/decode.ts'
import { fullTaskVector } from '../../src/compress/full.ts'
import type { CompressReport } from '../../src/compress/report.ts'
import type { RuleOptions } from '../../src/compress/rules.ts'
import { safetensorsHead } from '../../src/compress/safetensors.ts'
import { floatsToHalves } from '../../src/format/float16.ts'
import { memorySpool, parseHead, type TritHead } from '../../src/format/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { ByteSource } from '../../src/source/source.ts'

export interface Values {
  shape: readonly number[]
  values: ArrayLike<number>
  dtype?: keyof typeof STORED
}

const STORED = {
  F32: (floats: Float32Array<ArrayBuffer>) => floats,
  F16: floatsToHalves,
  /** The upper halves, to the nearest. */
  BF16: (floats: Float32Array<ArrayBuffer>) =>
    Uint16Array.from(new Uint32Array(floats.buffer), (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16),
  I8: (floats: Float32Array<ArrayBuffer>) => Int8Array.from(floats),
  U16: (floats: Float32Array<ArrayBuffer>) => Uint16Array.from(floats),
  I32: (floats: Float32Array<ArrayBuffer>) => Int32Array.from(floats),
  I64: (floats: Float32Array<ArrayBuffer>) => BigInt64Array.from(Array.from(floats, BigInt)),
  BOOL: (floats: Float32Array<ArrayBuffer>) => Uint8Array.from(floats),
}

/** A safetensors file of these tensors. */
export function safetensors(
  tensors: Record<string, Values>,
  metadata?: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const list = Object.entries(tensors).map(([name, { dtype = 'F32', shape, values }]) => ({
    name,
    dtype,
    shape,
    values,
  }))
  const parts: Uint8Array[] = [safetensorsHead(list, metadata)]
  for (const { dtype, values } of list) {
    const floats = Float32Array.from(values)
    parts.push(new Uint8Array(STORED[dtype](floats).buffer))
  }
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** A folder in memory. */
export function memoryFolder(files: Record<string, Uint8Array<ArrayBuffer> | object>): FileFolder {
  return {
    name: 'folder',
    list: async () => Object.keys(files),
    open: async (file) => {
      const content = files[file]
      return memorySource(
        content instanceof Uint8Array ? content : new TextEncoder().encode(JSON.stringify(content)),
        file,
      )
    },
  }
}

export interface Made extends CompressReport {
  source: ByteSource
  parsed: TritHead
  /** The deltas by name. */
  decoded: Map<string, Float32Array>
}

/** Compresses one set of tensors against another, and decodes what came out. */
export async function compressed(
  base: Record<string, Values>,
  finetuned: Record<string, Values>,
  options: RuleOptions,
): Promise<Made> {
  const [from, to] = await Promise.all(
    [base, finetuned].map((tensors) => openCheckpoint(memorySource(safetensors(tensors)))),
  )
  const spool = memorySpool()
  const report = await compressTaskVector(await fullTaskVector(from, to), options, { spool })
  return { ...report, ...(await opened(spool.join(report.head))) }
}

/** A file's head and all of its deltas. */
export async function opened(file: Uint8Array<ArrayBuffer>) {
  const source = memorySource(file)
  const parsed = await parseHead(file, 'file')
  const decoded = new Map<string, Float32Array>()
  for (const tensor of parsed.table.tensors)
    decoded.set(tensor.name, await decodeTensor(source, parsed, tensor))
  return { source, parsed, decoded }
}

/** Deterministic values with a heavy tail around 0, like the deltas of a fine-tuning. */
export function heavyTailed(count: number, seed: number, size = 0.01): Float32Array {
  let state = (seed * 2654435761) | 1
  const random = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32 - 0.5
  }
  return Float32Array.from({ length: count }, () => {
    const x = random() + random() + random()
    return size * x * Math.abs(x)
  })
}

export function zeros(shape: readonly number[]): Values {
  return { shape, values: new Float32Array(shape.reduce((product, size) => product * size, 1)) }
}
