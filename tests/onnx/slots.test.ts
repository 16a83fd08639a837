import { existsSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { BindingChoice } from '../../src/model/expert_bindings.ts'
import { placeBeside, readExpert } from '../../src/model/reference_beside.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { COMPRESSED, expertFile, expertsOf, UNCOMPRESSED } from './expert_files.ts'
import { difference, lastDifference, outputsOf, prepared, range, torchOutputs, ZOO } from './graphs.ts'

type Base = Awaited<ReturnType<typeof prepared>>

const GRAPHS = readdirSync(ZOO)
  .filter((model) => existsSync(join(ZOO, model, 'onnx')))
  .flatMap((model) =>
    ['onnx', 'onnx-genai']
      .filter((subfolder) => existsSync(join(ZOO, model, subfolder)))
      .map((subfolder) => ({ model, subfolder })),
  )

/** Outputs with experts bound as the choice says, and how many inputs that takes. */
async function bound(
  { model, base }: { model: string; base: Base },
  experts: readonly { file: ByteSource; weight: number }[],
  choice: BindingChoice,
) {
  const { tensors, bindings } = base.weights.head.table
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const graphs = await Promise.all(
    bindings!.graphs.map(async ({ file, inputs }) => {
      return { file, inputs, bytes: await readFile(join(base.out, file)), tensors: byName }
    }),
  )
  const read = await Promise.all(
    experts.map(async ({ file, weight }) => ({ expert: await readExpert(file), weight })),
  )
  const { variants, merged } = await placeBeside(graphs, read, choice, base.weights)
  let changed = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [i, { file, weight }] of experts.entries()) {
    const own = await base.weights.patched(file, weight, merged[i])
    changed = sum(base, changed, own)
  }
  const inputs = [...variants.values()].reduce((count, { feeds }) => count + feeds.size, 0)
  return { outputs: await outputsOf(model, base, changed, variants), inputs }
}

/** Changes of two experts together. */
function sum(
  base: Base,
  a: ReadonlyMap<string, Float32Array>,
  b: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
) {
  const both = new Map(a as ReadonlyMap<string, Float32Array<ArrayBuffer>>)
  for (const [name, values] of b) {
    const before = base.weights.tensors.get(name)!
    const other = a.get(name)
    both.set(name, other === undefined ? values : values.map((value, i) => value + (other[i] - before[i])))
  }
  return both
}

describe.each(GRAPHS)('beside the weights of $model/$subfolder', ({ model, subfolder }) => {
  let f32: Base
  let q4: Base
  let dequantized: Base
  beforeAll(async () => {
    const path = join(ZOO, model)
    f32 = await prepared(path, { subfolder })
    q4 = await prepared(path, { subfolder, dtype: 'q4', quantized: 'keep' })
    dequantized = await prepared(path, { subfolder, dtype: 'q4', storage: 'f32' })
  })

  test.each(expertsOf(model))(
    '%s: torch’s outputs on f32, and those of dequantized weights on q4',
    async (name) => {
      for (const rules of [UNCOMPRESSED, COMPRESSED]) {
        const file = await expertFile(model, name, rules)
        if (name !== 'bitfit') {
          const torch = await torchOutputs(model, rules === COMPRESSED ? `${name}.compeft` : name)
          for (const choice of ['side', 'input'] as const) {
            const isFull = rules === COMPRESSED && name === 'finetuned'
            if (choice === 'side' && !isFull) continue
            const { outputs, inputs } = await bound({ model, base: f32 }, [{ file, weight: 1 }], choice)
            expect(inputs, choice).toBeGreaterThan(0)
            expect(lastDifference(outputs, torch) / range(torch.data as Float32Array), choice).toBeLessThan(
              1e-3,
            )
          }
        }
        const { outputs } = await bound({ model, base: q4 }, [{ file, weight: 1 }], 'auto')
        const merged = await outputsOf(model, dequantized, await dequantized.weights.patched(file))
        expect(difference(outputs, merged) / range(merged.logits.data), 'q4').toBeLessThan(1e-3)
      }
    },
  )
})
