/**
 * What is scored beside the base: its weights as an expert or a fine-tuning changes them.
 *
 * @module
 */
import { openCheckpoint } from '../compress/checkpoint.ts'
import { isFloat } from '../compress/dtypes.ts'
import { readFloats, type StoredTensor } from '../compress/safetensors.ts'
import { TritswapError } from '../errors.ts'
import { weightsOf } from '../format/index.ts'
import { checkActsEverywhere, frontOf } from '../format/invocation.ts'
import type { GroupWeights } from '../model/compose.ts'
import { bindExpert } from '../model/expert_bindings.ts'
import type { LayerGroups } from '../model/layer_groups.ts'
import { countWeights } from '../model/loaded_experts.ts'
import { nameMatcher } from '../onnx/index.ts'
import {
  bypassOnCpu,
  type CpuBypass,
  mergeChange,
  StreamedExpert,
  type WeightChange,
} from '../reference/index.ts'
import { openFile, openPath } from './file_source.ts'
import { type PreparedBase, staysQuantized } from './prepared_base.ts'

/** The base as an expert or a fine-tuning changes it. */
export interface Variant {
  /** Of floats; none of the base itself. */
  change?: WeightChange
  /** What lies beside weights that stay quantized or are shared: a graph of its own. */
  bypass?: CpuBypass
  /** Of activated LoRA: the tokens that it acts from; the base reads what comes before. */
  invocation?: readonly number[]
  /** Virtual tokens, which the base reads first: what reads them. */
  front?: { tokens: number; bypass: CpuBypass }
  /** Bytes of its task vector in f16: of all weights of the tensors that it changes, or of virtual tokens. */
  f16Bytes: number
  close(): Promise<void>
}

/**
 * The base with an expert file.
 * @throws {TritswapError} `mapping`, `base` for an expert of another base, `unsupported` for one that no binding takes
 */
export async function expertVariant(
  { graph, fit }: PreparedBase,
  path: string,
  weight = 1,
): Promise<Variant> {
  const source = await openFile(path)
  try {
    const { weights, graphs, sites } = fit
    const opened = await StreamedExpert.open(source)
    const { table, unused } = await fit.fit(opened.table, path)
    const expert = opened.under(table)
    // What one of several modules with the same weight has alone lies beside floats too.
    const choice = staysQuantized(weights) ? 'auto' : 'merge'
    const { merged, bypass } = bindExpert(table, choice, weights, sites, unused)
    const change = mergeChange(weights, [{ expert, weight, only: merged }])
    const f16Bytes = 2 * [...change.targets.keys()].reduce((sum, name) => sum + weights.weightsOf(name), 0)
    const { invocation } = table
    const close = () => source.close()
    if (bypass.length === 0) return { change, invocation, f16Bytes, close }
    await expert.load(table.tensors.keys())
    const { variants } = await bypassOnCpu(graphs, [{ expert, weight, unused }], choice, weights, sites)
    expert.drop(table.tensors.keys())
    const tokens = frontOf([table])
    if (tokens > 0) {
      const front = { tokens, bypass: variants.get(graph.file)! }
      return {
        front,
        f16Bytes: 2 * table.tensors.reduce((sum, { shape }) => sum + weightsOf(shape), 0),
        close,
      }
    }
    return { change, bypass: variants.get(graph.file), invocation, f16Bytes, close }
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Decoded experts of a sum that are kept in memory at most; larger ones are decoded anew for each sum. */
const HELD_BYTES = 2 ** 29

/** Experts that are open beside a base, to be merged into it with any weights. */
export interface ExpertSum {
  /**
   * The base with all of them; those of weight 0 are left out.
   * @param groups - weights by groups of layers, in place of `weights`
   */
  change(weights: readonly number[], groups?: GroupWeights): WeightChange
  layers: LayerGroups
  close(): Promise<void>
}

/**
 * Opens experts whose sums are to be tried.
 * @throws {TritswapError} `unsupported` for a base whose weights stay quantized, and as {@link expertVariant}
 */
export async function expertSum({ fit }: PreparedBase, paths: readonly string[]): Promise<ExpertSum> {
  const { weights, sites, layers } = fit
  if (staysQuantized(weights)) {
    throw new TritswapError(
      'unsupported',
      'Cannot try sums of experts on a base whose weights stay quantized: prepare it with --quantized float',
    )
  }
  const sources: Awaited<ReturnType<typeof openFile>>[] = []
  const close = async () => {
    for (const source of sources) await source.close()
  }
  try {
    const entries: { expert: StreamedExpert; only: ReadonlySet<number> }[] = []
    for (const path of paths) {
      const source = await openFile(path)
      sources.push(source)
      const opened = await StreamedExpert.open(source)
      const { table, unused } = await fit.fit(opened.table, path)
      checkActsEverywhere(table, path, 'try sums with')
      const { merged, bypass } = bindExpert(table, 'merge', weights, sites, unused)
      if (bypass.length > 0) {
        throw new TritswapError(
          'unsupported',
          `Cannot add ${path} to others: what it does to one of several modules that share a weight lies beside that weight`,
          { fields: { path } },
        )
      }
      entries.push({ expert: opened.under(table), only: merged })
    }
    const bytes = entries.reduce((sum, { expert }) => sum + 4 * countWeights(expert.table.tensors), 0)
    if (bytes <= HELD_BYTES) for (const { expert } of entries) await expert.hold()
    return {
      change: (tried, groups) =>
        mergeChange(
          weights,
          entries
            .flatMap((entry, i) =>
              groups === undefined
                ? [{ ...entry, weight: tried[i] }]
                : groups[i].map((weight, group) => ({
                    ...entry,
                    weight,
                    only: inGroup(entry, layers, group, groups[i].length),
                  })),
            )
            .filter(({ weight }) => weight !== 0),
        ),
      layers,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Of the tensors that an expert merges, those in a group of layers. */
function inGroup(
  { expert: { table }, only }: { expert: StreamedExpert; only: ReadonlySet<number> },
  layers: LayerGroups,
  group: number,
  count: number,
): ReadonlySet<number> {
  return new Set([...only].filter((index) => layers.of(table.tensors[index].target, count) === group))
}

/**
 * The base with the tensors of an uncompressed fine-tuning that differ from its own.
 * @param path - safetensors file or folder
 * @throws {TritswapError} `base` for a tensor of another size than the base's
 */
export async function checkpointVariant({ fit }: PreparedBase, path: string): Promise<Variant> {
  const { weights } = fit
  const { tensors } = await openCheckpoint(await openPath(path))
  const targets = new Map<string, StoredTensor>()
  const match = nameMatcher(weights.head.table.tensors.map(({ name }) => name))
  let f16Bytes = 0
  for (const [name, tensor] of tensors) {
    const target = isFloat(tensor.dtype) ? match(name) : undefined
    if (target === undefined) continue
    const before = await weights.values(target)
    if (tensor.weights !== before.length) {
      throw new TritswapError(
        'base',
        `Cannot compare with ${path}: its ${name} is of another size than the base's`,
        { fields: { path, tensor: name } },
      )
    }
    const values = await readFloats(tensor)
    if (values.every((value, i) => value === before[i])) continue
    targets.set(target, tensor)
    f16Bytes += 2 * values.length
  }
  const change: WeightChange = { targets, valuesOf: (target) => readFloats(targets.get(target)!) }
  return { change, f16Bytes, async close() {} }
}
