import { expect, test } from 'vitest'
import { adapterTaskVector } from '../../src/compress/adapter.ts'
import { compressTaskVector } from '../../src/compress/compress.ts'
import { memorySpool } from '../../src/format/index.ts'
import { heavyTailed, memoryFolder, opened, safetensors } from './checkpoints.ts'

const PATH = 'base_model.model.score'

function product(b: Float32Array, a: Float32Array, out: number, rank: number, inputs: number): Float64Array {
  return Float64Array.from({ length: out * inputs }, (_, i) => {
    const [row, col] = [Math.floor(i / inputs), i % inputs]
    let sum = 0
    for (let k = 0; k < rank; k++) sum += b[row * rank + k] * a[k * inputs + col]
    return sum
  })
}

/** Compresses a pair without loss, and says what came out. */
async function through(
  shapeA: number[],
  shapeB: number[],
  valuesB = heavyTailed(shapeB[0] * shapeB[1], 2, 1),
) {
  const [rank, out, inputs] = [shapeA[0], shapeB[0], shapeA.slice(1).reduce((all, size) => all * size, 1)]
  const valuesA = heavyTailed(rank * inputs, 1, 1)
  const folder = memoryFolder({
    'adapter_config.json': { peft_type: 'LORA', r: rank, lora_alpha: 2 * rank, target_modules: ['score'] },
    'adapter_model.safetensors': safetensors({
      [`${PATH}.lora_A.weight`]: { shape: shapeA, values: valuesA },
      [`${PATH}.lora_B.weight`]: { shape: shapeB, values: valuesB },
    }),
  })
  const spool = memorySpool()
  const task = await adapterTaskVector(folder)
  const { head } = await compressTaskVector(task, { dense: ['*'], denseDtype: 'f32' }, { spool })
  const { parsed, decoded } = await opened(spool.join(head))
  const [a, b] = ['A', 'B'].map((factor) => decoded.get(`${PATH}.lora_${factor}.weight`)!)
  const reduced = parsed.table.tensors.find(({ role }) => role === 'loraA')!.shape[0]
  const expected = product(valuesB, valuesA, out, rank, inputs)
  const found = product(b, a, out, reduced, inputs)
  const range = Math.max(...expected.map(Math.abs))
  return {
    shapes: parsed.table.tensors.map(({ shape }) => [...shape]),
    scaling: parsed.table.tensors.map(({ scaling }) => scaling),
    error: Math.max(...expected.map((value, i) => Math.abs(value - found[i]))) / range,
  }
}

test.each([
  [
    'a head of two classes',
    [8, 40],
    [2, 8],
    [
      [2, 40],
      [2, 2],
    ],
  ],
  [
    'few inputs',
    [16, 3],
    [40, 16],
    [
      [3, 3],
      [40, 3],
    ],
  ],
  [
    'a convolution',
    [32, 2, 3, 3],
    [40, 32, 1, 1],
    [
      [18, 2, 3, 3],
      [40, 18, 1, 1],
    ],
  ],
  [
    'one row',
    [64, 5],
    [1, 64],
    [
      [1, 5],
      [1, 1],
    ],
  ],
  [
    'a rank as it may be',
    [2, 40],
    [2, 2],
    [
      [2, 40],
      [2, 2],
    ],
  ],
])('%s: the product stays, its rank goes to the smaller side', async (_, shapeA, shapeB, shapes) => {
  const result = await through(shapeA, shapeB)
  expect(result.shapes).toEqual(shapes)
  expect(result.scaling).toContain(2)
  expect(result.error).toBeLessThan(1e-6)
})

test('rows that depend on each other are no trouble', async () => {
  const row = heavyTailed(8, 5, 1)
  const { error } = await through(
    [8, 40],
    [3, 8],
    Float32Array.from([...row, ...row, ...row.map((x) => 2 * x)]),
  )
  expect(error).toBeLessThan(1e-6)
})
