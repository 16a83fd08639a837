import { dirname, join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { type ModelManifest, parseManifest } from '../fetcher/manifest.ts'
import { OnnxGraph, parseGraphFile } from '../onnx/index.ts'
import { ExpertFit, ReferenceWeights, StreamedWeights, type WeightTable } from '../reference/index.ts'
import { joinedSource } from '../source/joined.ts'
import type { ByteSource } from '../source/source.ts'
import { openFile, readText, readWhole } from './file_source.ts'
import type { CacheConfig } from './graph_inputs.ts'
import { externalDataOf } from './model_outputs.ts'
import { MANIFEST } from './prepare_model.ts'

type FolderConfig = CacheConfig & { model_type?: string }

/** A folder that `tritswap prepare` wrote, whose one decoder graph can be scored; its weights stay on disk. */
export interface PreparedBase {
  graph: OnnxGraph
  fit: ExpertFit<StreamedWeights>
  config: FolderConfig
  close(): Promise<void>
}

/** A folder that `tritswap prepare` wrote, with all its graphs. */
export interface PreparedModel {
  manifest: ModelManifest
  weights: ReferenceWeights
  graphs: { graph: OnnxGraph; externalData: { path: string; data: Uint8Array }[] }[]
  config: FolderConfig
}

export async function openPreparedModel(folder: string): Promise<PreparedModel> {
  const manifest = await readManifest(folder)
  const source = await openWeights(folder, manifest)
  const files = graphsOf(manifest)
  try {
    const graphs = await Promise.all(
      files.map(async (file) => {
        const path = join(folder, file)
        const graph = new OnnxGraph(file, await readWhole(path))
        return { graph, externalData: await externalDataOf(graph, dirname(path)) }
      }),
    )
    const weights = await ReferenceWeights.open(source, files)
    return { manifest, weights, graphs, config: await configOf(folder) }
  } finally {
    await source.close()
  }
}

async function readManifest(folder: string): Promise<ModelManifest> {
  const path = join(folder, MANIFEST)
  return parseManifest(await readWhole(path), path)
}

/** What is used of a configuration; nothing where there is none that can be read. */
async function configOf(folder: string): Promise<FolderConfig> {
  try {
    return (JSON.parse(await readText(join(folder, 'config.json'))) as FolderConfig) ?? {}
  } catch {
    return {}
  }
}

/** @throws {TritswapError} `unsupported` unless the model is one decoder graph */
export async function openPreparedBase(folder: string): Promise<PreparedBase> {
  const manifest = await readManifest(folder)
  const files = graphsOf(manifest)
  if (files.length !== 1) {
    throw new TritswapError(
      'unsupported',
      `Cannot score texts with ${folder}: expected one decoder graph, found ${files.length}`,
    )
  }
  const [file] = files
  const source = await openWeights(folder, manifest)
  try {
    const graph = new OnnxGraph(file, await readWhole(join(folder, file)))
    const { fingerprint, dtype } = manifest
    const weights = await StreamedWeights.open(source, files)
    const config = await configOf(folder)
    const modelType = config.model_type
    const fit = await ExpertFit.create(weights, [graph], { name: folder, fingerprint, dtype, modelType })
    return { graph, fit, config, close: () => source.close() }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** The weights file of a prepared folder, whole or in parts. */
async function openWeights(
  folder: string,
  { weights: { file, bytes, parts = [{ file, bytes }] } }: ModelManifest,
): Promise<ByteSource & { close(): Promise<void> }> {
  const sources = await Promise.all(parts.map((part) => openFile(join(folder, part.file))))
  const whole = joinedSource(
    join(folder, file),
    sources.map((source, i) => ({ source, bytes: parts[i].bytes })),
  )
  return { ...whole, close: async () => void (await Promise.all(sources.map((source) => source.close()))) }
}

/** The graphs of the default dtype. */
function graphsOf({ graphs, dtype, dtypes }: ModelManifest): string[] {
  return dtypes === undefined ? graphs : graphs.filter((file) => parseGraphFile(file)?.dtype === dtype)
}

/** Whether weights stay quantized: experts then lie beside them. */
export function staysQuantized({ bindings }: WeightTable): boolean {
  return bindings.graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
}
