/**
 * A zoo: a folder of model folders, each with graphs, adapters and torch's outputs; see the README of onnx-zoo.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseGraphFile } from '../../src/onnx/graph/graph_files.ts'

export interface ZooModel {
  name: string
  path: string
  /** Inputs, and what torch makes of them. */
  expected: string
  architecture: string
  graphs: ZooGraph[]
  experts: ZooExpert[]
}

/** A folder of graphs, in one of its dtypes. */
export interface ZooGraph {
  folder: string
  dtype: string
  externalData: boolean
}

/** An adapter or a checkpoint to make an expert of. */
export interface ZooExpert {
  name: string
  path: string
  kind: 'adapter' | 'finetuned'
  /** Must be refused with an error that names this method. */
  refuse?: string
  /** Modules that it replaces whole. */
  replaces: readonly string[]
}

/**
 * @param kinds - a folder of adapters for models of the zoo, of which torch has outputs for weights in f32: tried in the fp32 graphs
 */
export function readZoo(zoo: string, kinds?: string): ZooModel[] {
  return folders(zoo)
    .filter((name) => existsSync(join(zoo, name, EXPECTED)))
    .flatMap((name) => {
      const model = readModel(zoo, name)
      if (kinds === undefined || !existsSync(join(kinds, name, EXPECTED))) return [model]
      const graphs = model.graphs.filter(({ folder, dtype }) => folder === 'onnx' && dtype === 'fp32')
      const experts = adaptersIn(join(kinds, name))
      return [model, { ...model, expected: join(kinds, name, EXPECTED), graphs, experts }]
    })
}

const EXPECTED = 'expected.safetensors'

function readModel(zoo: string, name: string): ZooModel {
  const path = join(zoo, name)
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as { architectures?: string[] }
  return {
    name,
    path,
    expected: join(path, EXPECTED),
    architecture: config.architectures?.[0] ?? 'AutoModel',
    graphs: folders(path).flatMap((folder) => graphsIn(path, folder)),
    experts: expertsIn(path),
  }
}

function graphsIn(model: string, folder: string): ZooGraph[] {
  const files = readdirSync(join(model, folder))
  const graphs = files.flatMap((file) => parseGraphFile(file) ?? [])
  return [...new Set(graphs.map(({ dtype }) => dtype))].sort().map((dtype) => ({
    folder,
    dtype,
    externalData: files.some(
      (file) => file.endsWith('.onnx_data') && parseGraphFile(file.replace(/_data$/, ''))?.dtype === dtype,
    ),
  }))
}

function expertsIn(model: string): ZooExpert[] {
  const checkpoints = folders(model).filter(
    (name) => name !== 'adapters' && existsSync(join(model, name, 'model.safetensors')),
  )
  return [
    ...adaptersIn(join(model, 'adapters')),
    ...checkpoints.map((name) => ({
      name,
      path: join(model, name),
      kind: 'finetuned' as const,
      replaces: [],
    })),
  ]
}

function adaptersIn(path: string): ZooExpert[] {
  return (existsSync(path) ? folders(path) : []).map((name) => ({
    name,
    path: join(path, name),
    kind: 'adapter',
    refuse: /^refuse_([^_]+)/.exec(name)?.[1],
    replaces: [...modulesToSave(join(path, name)), ...modulesWithWeights(join(path, name))],
  }))
}

function modulesToSave(adapter: string): readonly string[] {
  const config = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8')) as {
    modules_to_save?: string[] | null
  }
  return config.modules_to_save ?? []
}

/** Modules whose own weights peft saved below their factors, and puts in the place of what is there. */
function modulesWithWeights(adapter: string): readonly string[] {
  const path = join(adapter, 'adapter_model.safetensors')
  if (!existsSync(path)) return []
  const bytes = readFileSync(path)
  const head = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as object
  return Object.keys(head).flatMap((name) => /([^.]+)\.base_layer\.weight$/.exec(name)?.[1] ?? [])
}

function folders(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
}
