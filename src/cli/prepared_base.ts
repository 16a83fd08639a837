import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TritswapError } from '../errors.ts'
import { SKETCH_VALUES, sketchPositions, targetsOf } from '../format/index.ts'
import type { BaseIdentity } from '../model/base_check.ts'
import { precisionNamed, precisionOf, quantizedDtypes } from '../model/weight_precision.ts'
import { OnnxGraph } from '../onnx/index.ts'
import { ReferenceWeights } from '../reference/index.ts'
import { openFile } from './file_source.ts'
import type { PreparedManifest } from './prepare_model.ts'

/** A folder that `tritswap prepare` wrote, opened on the CPU: its weights, and its one decoder graph. */
export interface PreparedBase {
  manifest: PreparedManifest
  weights: ReferenceWeights
  graph: OnnxGraph
}

/** @throws {TritswapError} `unsupported` unless the model is one decoder graph */
export async function openPreparedBase(folder: string): Promise<PreparedBase> {
  const manifest = JSON.parse(await readFile(join(folder, 'tritswap.json'), 'utf8')) as PreparedManifest
  if (manifest.graphs.length !== 1) {
    throw new TritswapError(
      'unsupported',
      `Cannot score texts with ${folder}: expected one decoder graph, found ${manifest.graphs.length}`,
    )
  }
  const [file] = manifest.graphs
  const source = await openFile(join(folder, manifest.weights.file))
  try {
    const weights = await ReferenceWeights.open(source)
    return { manifest, weights, graph: new OnnxGraph(file, await readFile(join(folder, file))) }
  } finally {
    await source.close()
  }
}

/** Whether weights stay quantized: experts then lie beside them, and nothing else can be compared with the base. */
export function staysQuantized({ weights }: PreparedBase): boolean {
  return weights.bindings.graphs.some(({ inputs }) => inputs.some(({ raw }) => raw !== undefined))
}

/** What an expert is checked against, by the same rules as in the page. */
export function identityOf({ manifest, weights }: PreparedBase, name: string): BaseIdentity {
  const { tensors } = weights.head.table
  return {
    name,
    fingerprint: manifest.fingerprint,
    dtype: precisionOf(weights.head.table) ?? precisionNamed(manifest.dtype) ?? 'f32',
    dtypes: quantizedDtypes(tensors),
    shapes: new Map(tensors.map((tensor) => [tensor.name, tensor.shape])),
    sketches: new Map(
      targetsOf(tensors).map((tensor) => {
        const values = weights.tensors.get(tensor)!
        return [
          tensor,
          sketchPositions(tensor, values.length)
            .map((position) => values[position])
            .slice(0, SKETCH_VALUES),
        ]
      }),
    ),
  }
}
