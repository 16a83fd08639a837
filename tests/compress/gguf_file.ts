import { toHalf } from '../../src/format/float16.ts'

/** A tensor as a GGUF stores it, rows first. */
export interface GgufEntry {
  shape: readonly number[]
  /** Of ggml. */
  type: number
  bytes: Uint8Array
}

type Metadata = Record<string, number | string | readonly string[]>

/** A GGUF file of version 3. */
export function ggufFile(metadata: Metadata, tensors: Record<string, GgufEntry>): Uint8Array<ArrayBuffer> {
  const front: number[] = []
  const u32 = (value: number) => front.push(...new Uint8Array(Uint32Array.of(value).buffer))
  const u64 = (value: number) => front.push(...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer))
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value)
    u64(bytes.length)
    front.push(...bytes)
  }
  front.push(...new TextEncoder().encode('GGUF'))
  u32(3)
  u64(Object.keys(tensors).length)
  u64(Object.keys(metadata).length)
  for (const [key, value] of Object.entries(metadata)) {
    text(key)
    if (typeof value === 'number') {
      u32(4)
      u32(value)
    } else if (typeof value === 'string') {
      u32(8)
      text(value)
    } else {
      u32(9)
      u32(8)
      u64(value.length)
      for (const item of value) text(item)
    }
  }
  let end = 0
  for (const [name, { shape, type, bytes }] of Object.entries(tensors)) {
    text(name)
    u32(shape.length)
    for (const size of [...shape].reverse()) u64(size)
    u32(type)
    u64(end)
    end += Math.ceil(bytes.length / 32) * 32
  }
  const start = Math.ceil(front.length / 32) * 32
  const file = new Uint8Array(start + end)
  file.set(front)
  let at = start
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, at)
    at += Math.ceil(bytes.length / 32) * 32
  }
  return file
}

/** Values as ggml quantizes them to 4 or 8 bits, near enough for a test; in blocks of 32 along the rows. */
export function ggufBlocks(type: 'Q4_0' | 'Q4_1' | 'Q8_0', values: ArrayLike<number>): Uint8Array {
  const out: number[] = []
  const half = (value: number) => out.push(toHalf(value) & 255, toHalf(value) >>> 8)
  for (let at = 0; at < values.length; at += 32) {
    const block = Array.from({ length: 32 }, (_, i) => values[at + i])
    const least = Math.min(...block)
    const largest = Math.max(...block.map(Math.abs)) || 1
    const scale = { Q4_0: largest / 8, Q4_1: (Math.max(...block) - least) / 15 || 1, Q8_0: largest / 127 }[
      type
    ]
    const origin = { Q4_0: -8 * scale, Q4_1: least, Q8_0: 0 }[type]
    half(scale)
    if (type === 'Q4_1') half(least)
    const whole = block.map((value) => Math.round((value - origin) / scale))
    if (type === 'Q8_0') out.push(...whole.map((q) => q & 255))
    else {
      const q = whole.map((value) => Math.min(15, Math.max(0, value)))
      for (let i = 0; i < 16; i++) out.push(q[i] | (q[i + 16] << 4))
    }
  }
  return Uint8Array.from(out)
}
