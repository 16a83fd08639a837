import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BindingChoice } from '../../src/model/expert_bindings.ts'
import { type BypassGraph, OnnxGraph } from '../../src/onnx/index.ts'
import { bypassOnCpu, readExpert } from '../../src/reference/index.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { outputsOf, type prepared } from './graphs.ts'

type Base = Awaited<ReturnType<typeof prepared>>
type Expert = { file: ByteSource; weight: number }

/** The graphs of a base are parsed once. */
const graphsOf = new WeakMap<Base, Promise<BypassGraph[]>>()

function openGraphs(base: Base): Promise<BypassGraph[]> {
  const { tensors, bindings } = base.weights.head.table
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  const graphs = Promise.all(
    bindings!.graphs.map(async ({ file, inputs }) => {
      const graph = new OnnxGraph(file, await readFile(join(base.out, file)))
      return { graph, inputs, tensors: byName }
    }),
  )
  graphsOf.set(base, graphs)
  return graphs
}

/** Outputs with experts bound as the choice says, and how many inputs that takes. */
export async function bound(model: string, base: Base, experts: readonly Expert[], choice: BindingChoice) {
  const graphs = await (graphsOf.get(base) ?? openGraphs(base))
  const read = await readAll(experts)
  const { variants, merged } = await bypassOnCpu(graphs, read, choice, base.weights)
  const changed = base.weights.merged(merged)
  const inputs = [...variants.values()].reduce((count, { feeds }) => count + feeds.size, 0)
  return { outputs: await outputsOf(model, base, changed, variants), inputs }
}

/** Outputs with experts merged together. */
export async function mergedOutputs(model: string, base: Base, experts: readonly Expert[]) {
  return outputsOf(model, base, base.weights.merged(await readAll(experts)))
}

function readAll(experts: readonly Expert[]) {
  return Promise.all(experts.map(async ({ file, weight }) => ({ expert: await readExpert(file), weight })))
}
