import { expect, test } from 'vitest'
import { readSafetensors } from '../../src/compress/safetensors.ts'
import { sameButForRounding } from '../../src/demo/precision.ts'
import { memorySource } from '../../src/source/memory.ts'
import { safetensors } from '../compress/checkpoints.ts'
import { Random } from '../gpu/random.ts'

const random = new Random(5)
const values = Float32Array.from({ length: 3000 }, () => random.unit() - 0.5)

async function tensor(from: ArrayLike<number>, dtype: 'F32' | 'F16') {
  const file = memorySource(safetensors({ w: { shape: [from.length], values: from, dtype } }))
  return (await readSafetensors(file)).tensors[0]!
}

/** The same values with the 16 low bits of each f32 gone, as bfloat16 has them: rounded to nearest, ties to even. */
function toBf16(from: Float32Array): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(from.slice().buffer)
  const out = Uint16Array.from(words, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
  return new Uint8Array(out.buffer)
}

test('what was rounded on its way is the same; what moved by more is not', async () => {
  const f16 = await tensor(values, 'F16')
  const f32 = await tensor(values, 'F32')
  expect(await sameButForRounding(f32, f16)).toBe(true)
  expect(await sameButForRounding(f16, f32)).toBe(true)
  const moved = values.slice()
  moved[2999]! *= 1.01
  expect(await sameButForRounding(await tensor(moved, 'F32'), f16)).toBe(false)
})

test('in bfloat16, either way', async () => {
  const f32 = await tensor(values, 'F32')
  const bf16 = { ...f32, dtype: 'BF16', bytes: 6000, offset: 0, source: memorySource(toBf16(values)) }
  expect(await sameButForRounding(bf16, f32)).toBe(true)
  const moved = values.slice()
  moved[0]! += 0.01
  expect(await sameButForRounding(bf16, await tensor(moved, 'F32'))).toBe(false)
})

test('of one dtype the difference is exact, so nothing is to be forgiven', async () => {
  const f16 = await tensor(values, 'F16')
  expect(await sameButForRounding(f16, f16)).toBe(false)
})
