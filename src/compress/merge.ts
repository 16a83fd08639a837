/**
 * Experts merged into one: their values are summed up or voted on entry by entry, and what comes out is compressed
 * like any other task vector.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { decodeTernary } from '../format/codecs/ternary.ts'
import { fromHalf } from '../format/float16.ts'
import { decodeValues, readSection, ternarySection } from '../format/section.ts'
import { compareSketch } from '../format/sketch.ts'
import { type BaseRecord, SKETCH_VALUES, type TritTensor, targetsOf } from '../format/table.ts'
import { weightsOf } from '../format/tiling.ts'
import type { ByteSource, ReadOptions } from '../source/source.ts'
import { type OpenExpert, sameTensors, tensorNames } from './algebra.ts'
import {
  type CompressContext,
  type CompressReport,
  compressTaskVector,
  type ExpertTexts,
} from './compress.ts'
import type { RuleOptions } from './rules.ts'
import type { StoredTensor } from './safetensors.ts'
import type { TaskTensor, TaskVector } from './task_vector.ts'

/**
 * - `average`: Σ wᵢ·τᵢ / Σ wᵢ
 * - `task-arithmetic`: Σ wᵢ·τᵢ (Ilharco et al. 2023)
 * - `ties`: entry by entry, the sign with the larger Σ |wᵢ·τᵢ| is elected, and the result is the mean of the wᵢ·τᵢ
 *   that have it (Yadav et al. 2023); 0 where the two signs weigh the same. The trimming that comes first in the
 *   paper is what compression did to each expert.
 */
export type MergeMethod = 'average' | 'task-arithmetic' | 'ties'

export const MERGE_METHODS = ['average', 'task-arithmetic', 'ties'] as const satisfies readonly MergeMethod[]

export interface MergeOptions
  extends Omit<RuleOptions, 'include' | 'exclude' | 'dense' | 'overrides'>,
    ExpertTexts {
  method: MergeMethod
  /** One for each expert; 1 by default. */
  weights?: readonly number[]
  /** Fraction to keep; the largest density among the experts by default. */
  density?: number
  /** Keep the merged values as they are, in f16 or f32, instead of making them ternary again. */
  dense?: boolean
}

/** Values of merged tensors that are kept between passes, in bytes: what compression works on at once. */
const CACHE_BYTES = 2 ** 27

/**
 * Merges experts of one base into a new one. Tensors that were dense in any of them stay dense; tensors that an
 * expert lacks count as zero.
 *
 * @throws {TritswapError} `base` for experts of different bases, `input` for experts or options that do not fit
 */
export async function mergeExperts(
  experts: readonly OpenExpert[],
  options: MergeOptions,
  context: CompressContext,
): Promise<CompressReport> {
  const {
    method,
    dense = false,
    density = densestOf(experts),
    weights = experts.map(() => 1),
    ...rules
  } = options
  checkWeights(experts, weights, method)
  checkSameBase(experts)
  const read = cached((name) => mergedValues(experts, name, method, weights, { signal: context.signal }))
  const names = tensorNames(experts)
  const task: TaskVector = {
    method: experts[0].head.table.method,
    tensors: names.map((name) => taskTensor(experts, name, read)),
    baseRecord: (tensors) => mergedBase(experts, targetsOf(tensors)),
    sources: experts.map(({ source }) => source),
    notes: experts[0].head.table.method === 'lora' ? [FACTORS_NOTE] : [],
  }
  const stayDense = names.filter(
    (name) => dense || sameTensors(experts, name).some((tensor) => tensor?.codec === 'dense'),
  )
  return compressTaskVector(task, { ...rules, density, dense: stayDense.map(asGlob) }, context)
}

const FACTORS_NOTE =
  'LoRA factors are merged entry by entry, as ComPEFT does: good for adapters that were trained from one start'

/** @throws {TritswapError} `input` */
function checkWeights(experts: readonly OpenExpert[], weights: readonly number[], method: MergeMethod): void {
  if (experts.length < 2)
    throw new TritswapError('input', `Cannot merge: expected at least 2 experts, found ${experts.length}`)
  if (weights.length !== experts.length || !weights.every(Number.isFinite)) {
    throw new TritswapError(
      'input',
      `Cannot merge ${experts.length} experts: expected as many weights, found ${weights.join(', ')}`,
      {
        fields: { weights: [...weights] },
      },
    )
  }
  if (method === 'average' && weights.reduce((sum, weight) => sum + weight, 0) === 0) {
    throw new TritswapError('input', 'Cannot average: the weights add up to 0; use task-arithmetic')
  }
}

/** @throws {TritswapError} `base` or `input` unless all experts change the same weights in the same way */
function checkSameBase(experts: readonly OpenExpert[]): void {
  const [first, ...others] = experts
  for (const expert of experts) {
    if (expert.head.table.kind === 'expert') continue
    throw new TritswapError(
      'input',
      `Cannot merge ${expert.source.name}: expected an expert, found a ${expert.head.table.kind}`,
    )
  }
  for (const other of others) {
    const [a, b] = [first.head.table, other.head.table]
    if (a.method !== b.method) {
      throw new TritswapError(
        'input',
        `Cannot merge ${first.source.name} with ${other.source.name}: one has method ${a.method}, the other ${b.method}`,
        { fields: { methods: [a.method, b.method] } },
      )
    }
    const known = a.base.fingerprint !== undefined && b.base.fingerprint !== undefined
    if (known ? a.base.fingerprint !== b.base.fingerprint : !sketchesAgree(first, other)) {
      throw new TritswapError(
        'base',
        `Cannot merge ${first.source.name} with ${other.source.name}: they were made for different bases; merge experts of one base`,
        { fields: { bases: [a.base.fingerprint, b.base.fingerprint] } },
      )
    }
  }
}

/** False if both know the values of a tensor of their base, and these differ. */
function sketchesAgree(a: OpenExpert, b: OpenExpert): boolean {
  const [ours, theirs] = [sketchByTarget(a), sketchByTarget(b)]
  return [...ours].every(([target, sketch]) => {
    const other = theirs.get(target)
    return other === undefined || compareSketch(sketch, Float32Array.from(other, fromHalf), 'f32').same
  })
}

function sketchByTarget({ head: { table } }: OpenExpert): Map<string, Uint16Array> {
  const { sketch } = table.base
  if (sketch === undefined) return new Map()
  return new Map(
    targetsOf(table.tensors).map((target, i) => [
      target,
      sketch.subarray(i * SKETCH_VALUES, (i + 1) * SKETCH_VALUES),
    ]),
  )
}

/** What the experts together know of their base; a sketch only if it covers all targets. */
function mergedBase(experts: readonly OpenExpert[], targets: readonly string[]): BaseRecord {
  const records = experts.map(({ head }) => head.table.base)
  const known = new Map(experts.flatMap((expert) => [...sketchByTarget(expert)]))
  const sketches = targets.map((target) => known.get(target))
  return {
    name: records.find(({ name }) => name !== undefined)?.name,
    fingerprint: records.find(({ fingerprint }) => fingerprint !== undefined)?.fingerprint,
    sketch: sketches.every((sketch) => sketch !== undefined)
      ? Uint16Array.from(sketches.flatMap((sketch) => [...sketch]))
      : undefined,
  }
}

/** The largest density among the ternary tensors of each expert. */
function densestOf(experts: readonly OpenExpert[]): number | undefined {
  const densities = experts.flatMap(({ head }) => {
    const ternary = head.table.tensors.filter((tensor) => tensor.codec === 'ternary')
    const weights = ternary.reduce((sum, { shape }) => sum + weightsOf(shape), 0)
    const kept = ternary.reduce((sum, tensor) => sum + tensor.kept, 0)
    return kept === 0 ? [] : [kept / weights]
  })
  return densities.length === 0 ? undefined : Math.max(...densities)
}

/** A merged tensor as one whose values lie in a file, except that they are computed when they are read. */
function taskTensor(experts: readonly OpenExpert[], name: string, read: ReadValues): TaskTensor {
  const tensors = sameTensors(experts, name)
  const { shape, role, target, layout, feedforward, scaling } = tensors.find(
    (tensor) => tensor !== undefined,
  )!
  const weights = weightsOf(shape)
  const source: ByteSource = {
    name: `merged ${name}`,
    size: async () => weights * 4,
    async read(offset, length) {
      const { buffer, byteOffset } = await read(name)
      return new Uint8Array(buffer, byteOffset + offset, length).slice()
    },
  }
  const theta: StoredTensor = { name, dtype: 'F32', shape, weights, source, offset: 0, bytes: weights * 4 }
  return { name, shape, role, target, layout, feedforward, scaling, theta, init: 0 }
}

type ReadValues = (name: string) => Promise<Float32Array<ArrayBuffer>>

/** Keeps the values read last, as far as {@link CACHE_BYTES} go: every pass reads a tensor slice by slice. */
function cached(read: ReadValues): ReadValues {
  const recent = new Map<string, Promise<Float32Array<ArrayBuffer>>>()
  const sizes = new Map<string, number>()
  return async (name) => {
    const found = recent.get(name) ?? read(name)
    recent.delete(name)
    recent.set(name, found)
    found.then(
      ({ byteLength }) => sizes.set(name, byteLength),
      () => recent.delete(name),
    )
    const bytes = () => [...recent.keys()].reduce((sum, key) => sum + (sizes.get(key) ?? 0), 0)
    for (const oldest of recent.keys()) {
      if (oldest === name || bytes() <= CACHE_BYTES) break
      recent.delete(oldest)
    }
    return found
  }
}

/** The merged values of one tensor, flat and row-major. */
async function mergedValues(
  experts: readonly OpenExpert[],
  name: string,
  method: MergeMethod,
  weights: readonly number[],
  options?: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const tensors = sameTensors(experts, name)
  const total = method === 'average' ? weights.reduce((sum, weight) => sum + weight, 0) : 1
  const parts: Part[] = []
  for (const [i, tensor] of tensors.entries()) {
    if (tensor !== undefined) parts.push(await readPart(experts[i], tensor, weights[i] / total, options))
  }
  const sum = new Float32Array(weightsOf(tensors.find((tensor) => tensor !== undefined)!.shape))
  for (const part of parts) {
    part((index, value) => {
      sum[index] += value
    })
  }
  return method === 'ties' ? meanOfElected(sum, parts) : sum
}

/** The mean of the values that have the sign of `elected`, entry by entry. */
function meanOfElected(
  elected: Float32Array<ArrayBuffer>,
  parts: readonly Part[],
): Float32Array<ArrayBuffer> {
  const mean = new Float32Array(elected.length)
  const count = new Uint16Array(elected.length)
  for (const part of parts) {
    part((index, value) => {
      if (Math.sign(value) !== Math.sign(elected[index])) return
      mean[index] += value
      count[index]++
    })
  }
  for (let i = 0; i < mean.length; i++) if (count[i] > 1) mean[i] /= count[i]
  return mean
}

/** Visits the weighted values of one expert's tensor; of a ternary one, those that are not 0. */
type Part = (visit: (index: number, value: number) => void) => void

async function readPart(
  { source, head }: OpenExpert,
  tensor: TritTensor,
  weight: number,
  options?: ReadOptions,
): Promise<Part> {
  const section = await readSection(source, head, tensor, options)
  if (tensor.codec !== 'ternary') {
    const values = decodeValues(tensor, section)
    return (visit) => {
      for (let i = 0; i < values.length; i++) visit(i, weight * values[i])
    }
  }
  const { indices, negative } = decodeTernary(tensor.shape, ternarySection(tensor, section))
  const value = weight * tensor.scale
  return (visit) => {
    for (let i = 0; i < indices.length; i++) visit(indices[i], negative[i] === 0 ? value : -value)
  }
}

/** A glob that matches one name. */
function asGlob(name: string): string {
  return name.replace(/[\\*?[\]{}()!+@|]/g, '\\$&')
}
