import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BindingChoice } from '../../src/model/expert_bindings.ts'
import { bypassOnCpu, readExpert } from '../../src/reference/index.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { outputsOf, type prepared } from './graphs.ts'

type Base = Awaited<ReturnType<typeof prepared>>

/** Outputs with experts bound as the choice says, and how many inputs that takes. */
export async function bound(
  model: string,
  base: Base,
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
  const { variants, merged } = await bypassOnCpu(graphs, read, choice, base.weights)
  let changed = new Map<string, Float32Array<ArrayBuffer>>()
  for (const [i, { file, weight }] of experts.entries()) {
    const own = await base.weights.patched(file, weight, merged[i])
    changed = sumOf(base, changed, own)
  }
  const inputs = [...variants.values()].reduce((count, { feeds }) => count + feeds.size, 0)
  return { outputs: await outputsOf(model, base, changed, variants), inputs }
}

/** Changes of two experts together. */
export function sumOf(
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
