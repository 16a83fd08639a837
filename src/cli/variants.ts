/**
 * What is scored beside the base: its weights as an expert or a fine-tuning changes them.
 *
 * @module
 */
import { openCheckpoint } from '../compress/checkpoint.ts'
import { isFloat } from '../compress/dtypes.ts'
import { readFloats } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { nameMatcher } from '../onnx/index.ts'
import type { TensorValues } from '../reference/index.ts'
import { bypassOnCpu, type CpuBypass, readExpert } from '../reference/index.ts'
import { openFile, openPath } from './file_source.ts'
import { type PreparedBase, staysQuantized } from './prepared_base.ts'

/** Changed tensors of the base, or what an expert does that is not merged whole. */
export type Variant = TensorValues | BypassVariant

/** An expert beside weights that stay quantized or are shared: a graph of its own, and the tensors that are merged all the same. */
export interface BypassVariant {
  changed: TensorValues
  bypass: CpuBypass
}

/** The base with an expert file. */
export async function expertVariant(base: PreparedBase, path: string, weight = 1): Promise<Variant> {
  const source = await openFile(path)
  try {
    const { tensors } = base.weights.head.table
    const { inputs } = base.weights.bindings.graphs[0]
    const graph = {
      graph: base.graph,
      inputs,
      tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    }
    const experts = [{ expert: await readExpert(source), weight }]
    // What one of several modules with the same weight has alone lies beside floats too.
    const choice = staysQuantized(base) ? 'auto' : 'merge'
    const { variants, merged } = await bypassOnCpu([graph], experts, choice, base.weights)
    const changed = base.weights.merged([{ ...experts[0], only: merged[0] }])
    const bypass = variants.get(base.graph.file)
    return bypass === undefined ? changed : { changed, bypass }
  } finally {
    await source.close()
  }
}

/**
 * Tensors of an uncompressed fine-tuning that differ from the base.
 * @param path - safetensors file or folder, or a `.trit` file with dense tensors
 * @throws {TritswapError} `base` for a tensor of another size than the base's, `unsupported` for an expert that is not
 * merged whole
 */
export async function finetunedTensors(base: PreparedBase, path: string): Promise<TensorValues> {
  if (path.endsWith('.trit')) {
    const variant = await expertVariant(base, path)
    if (!('bypass' in variant)) return variant
    throw new TritswapError(
      'unsupported',
      `Cannot compare with ${path}: some of it lies beside weights of the base; give the fine-tuning as safetensors`,
      { fields: { path } },
    )
  }
  const { tensors } = await openCheckpoint(await openPath(path))
  const moved = new Map<string, Float32Array<ArrayBuffer>>()
  const match = nameMatcher(base.weights.tensors.keys())
  for (const [name, tensor] of tensors) {
    const target = isFloat(tensor.dtype) ? match(name) : undefined
    if (target === undefined) continue
    const before = base.weights.tensors.get(target)!
    const values = await readFloats(tensor)
    if (values.length !== before.length) {
      throw new TritswapError(
        'base',
        `Cannot compare with ${path}: its ${name} is of another size than the base's`,
        { fields: { path, tensor: name } },
      )
    }
    if (values.some((value, i) => value !== before[i])) moved.set(target, values)
  }
  return moved
}

/** Bytes that a task vector of these tensors would take in f16. */
export function deltaBytes(moved: TensorValues): number {
  let weights = 0
  for (const values of moved.values()) weights += values.length
  return weights * 2
}
