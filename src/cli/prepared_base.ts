import { dirname, join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { type ModelManifest, parseManifest } from '../fetcher/manifest.ts'
import { OnnxGraph } from '../onnx/index.ts'
import { ExpertFit, ReferenceWeights, StreamedWeights, type WeightTable } from '../reference/index.ts'
import { openFile, readText, readWhole } from './file_source.ts'
import type { CacheConfig } from './graph_inputs.ts'
import { externalDataOf } from './model_outputs.ts'
import { MANIFEST } from './prepare_model.ts'

/** A folder that `tritswap prepare` wrote, whose one decoder graph can be scored; its weights stay on disk. */
export interface PreparedBase {
  graph: OnnxGraph
  fit: ExpertFit<StreamedWeights>
  config: CacheConfig
  close(): Promise<void>
}

/** A folder that `tritswap prepare` wrote, with all its graphs. */
export interface PreparedModel {
  manifest: ModelManifest
  weights: ReferenceWeights
  graphs: { graph: OnnxGraph; externalData: { path: string; data: Uint8Array }[] }[]
  config: CacheConfig
}

export async function openPreparedModel(folder: string): Promise<PreparedModel> {
  const manifest = await readManifest(folder)
  const source = await openFile(join(folder, manifest.weights.file))
  try {
    const graphs = await Promise.all(
      manifest.graphs.map(async (file) => {
        const path = join(folder, file)
        const graph = new OnnxGraph(file, await readWhole(path))
        return { graph, externalData: await externalDataOf(graph, dirname(path)) }
      }),
    )
    return { manifest, weights: await ReferenceWeights.open(source), graphs, config: await configOf(folder) }
  } finally {
    await source.close()
  }
}

async function readManifest(folder: string): Promise<ModelManifest> {
  const path = join(folder, MANIFEST)
  return parseManifest(await readWhole(path), path)
}

/** What the configuration says of caches; nothing where there is none that can be read. */
async function configOf(folder: string): Promise<CacheConfig> {
  try {
    return (JSON.parse(await readText(join(folder, 'config.json'))) as CacheConfig) ?? {}
  } catch {
    return {}
  }
}

/** @throws {TritswapError} `unsupported` unless the model is one decoder graph */
export async function openPreparedBase(folder: string): Promise<PreparedBase> {
  const manifest = await readManifest(folder)
  if (manifest.graphs.length !== 1) {
    throw new TritswapError(
      'unsupported',
      `Cannot score texts with ${folder}: expected one decoder graph, found ${manifest.graphs.length}`,
    )
  }
  const [file] = manifest.graphs
  const source = await openFile(join(folder, manifest.weights.file))
  try {
    const graph = new OnnxGraph(file, await readWhole(join(folder, file)))
    const { fingerprint, dtype } = manifest
    const weights = await StreamedWeights.open(source)
    const fit = await ExpertFit.create(weights, [graph], { name: folder, fingerprint, dtype })
    return { graph, fit, config: await configOf(folder), close: () => source.close() }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Whether weights stay quantized: experts then lie beside them. */
export function staysQuantized({ bindings }: WeightTable): boolean {
  return bindings.graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
}
