import { TritswapError } from '../errors.ts'
import { MAX_TERMS } from '../format/limits.ts'
import { sketchValuesFor } from '../format/sketch.ts'
import { targetsOf } from '../format/table.ts'
import { tilingOf, weightsOf } from '../format/tiling.ts'
import { TritWriter } from '../format/writer.ts'
import { BaseNames } from './base_names.ts'
import type { Checkpoint } from './checkpoint.ts'
import { writeDelta } from './dense_input.ts'
import { runJob } from './passes.ts'
import { placeholder } from './placeholders.ts'
import { describeBase, describeSources, withSketch } from './provenance.ts'
import {
  type CompressContext,
  type CompressReport,
  countBytes,
  type ExpertTexts,
  type TensorReport,
  textsOf,
} from './report.ts'
import { readBytes, readFloats, type StoredTensor } from './safetensors.ts'
import { sha256OfSource } from './source_hash.ts'
import { inFileOrder, packed } from './terms.ts'

/** What follows the name of a target: vectors over its rows, vectors over its columns, scales. */
const PARTS = ['x', 'y', 'd'] as const

type Parts = Record<(typeof PARTS)[number], StoredTensor>

/** The terms of one target, their shapes checked. */
interface StoredTerms extends Parts {
  target: string
  /** Of the target, in the checkpoint's layout. */
  shape: readonly number[]
  terms: number
}

/**
 * Packs ternary rank-1 terms that an author's own method made, as they are: for each target I8 `<target>.x` [rows, p] and
 * `<target>.y` [p, columns] of −1, 0, 1, and F32 `<target>.d` [p], so that the change is Σ d·x·yᵀ of the weight as the checkpoint
 * keeps it (of a linear, rows are its outputs); and dense deltas (F16 or F32) for the rest.
 *
 * @throws {TritswapError} `input`, naming the tensor, for parts that are missing or of other shapes and dtypes, for entries other
 * than −1, 0 and 1, for scales that are not finite; `base` for targets that the base lacks
 */
export async function packTerms(
  parts: Checkpoint,
  base: Checkpoint | undefined,
  texts: ExpertTexts & { baseName?: string },
  context: CompressContext,
): Promise<CompressReport> {
  const { signal, run = runJob, onProgress } = context
  const { spool, bytes } = countBytes(context.spool)
  const writer = new TritWriter(spool)
  const { terms, deltas } = partsOf(parts, base)
  const all = [...terms.map(({ shape }) => weightsOf(shape)), ...deltas.map(({ weights }) => weights)]
  const total = all.reduce((sum, weights) => sum + weights, 0)
  const written: { target: string }[] = []
  const tensors: TensorReport[] = []
  const unmoved: string[] = []
  let done = 0
  const count = (weights: number) => {
    done += weights
    onProgress?.({ done, total })
  }
  for (const own of terms) {
    signal?.throwIfAborted()
    const { target, shape } = own
    const weights = weightsOf(shape)
    const found = await sectionOf(own)
    if (found === undefined) unmoved.push(target)
    else {
      const layout = shape.length > 2 ? ('conv2d' as const) : undefined
      const common = { name: target, shape, role: 'delta' as const, target, layout }
      const { packing, section } = found
      await writer.add({ ...common, codec: 'terms', terms: own.terms, packing }, section)
      written.push(common)
      tensors.push({ name: target, weights, kept: weights, terms: own.terms })
    }
    count(weights)
  }
  for (const delta of deltas) {
    written.push(await writeDelta(writer, delta, run, signal))
    tensors.push({ name: delta.name, weights: delta.weights, kept: delta.weights })
    count(delta.weights)
  }
  if (tensors.length === 0)
    throw new TritswapError('input', `Cannot pack ${parts.name}: it holds no terms that are not all zero`)
  const baseRecord = await describeBase({ base: base?.tensors, baseName: texts.baseName }, run, signal)
  const values = sketchValuesFor(targetsOf(written).length)
  const head = await writer.finish({
    kind: 'expert',
    method: 'lora',
    base: await withSketch(baseRecord, base?.tensors, written, signal, values),
    compression: {},
    sources: await describeSources(parts.files, context.sha256 ?? sha256OfSource),
    ...textsOf(texts),
  })
  return { head, bytes: head.length + bytes(), tensors, empty: [], unmoved, skipped: [], notes: [] }
}

/** What a file holds: parts by their target, in the order of the file to write, and deltas. */
function partsOf(parts: Checkpoint, base: Checkpoint | undefined) {
  const names = base && new BaseNames(base.tensors)
  const found = new Map<string, Partial<Parts>>()
  const deltas: StoredTensor[] = []
  for (const tensor of parts.tensors.values()) {
    if (tensor.weights === 0) throw placeholder(tensor)
    const dot = tensor.name.lastIndexOf('.')
    const part = PARTS.find((own) => own === tensor.name.slice(dot + 1))
    if (part === undefined || base?.tensors.has(tensor.name)) deltas.push(tensor)
    else {
      const target = tensor.name.slice(0, dot)
      found.set(target, { ...found.get(target), [part]: tensor })
    }
  }
  const checked = Array.from(found, ([target, own]) => checkedTerms(target, own, parts, base, names))
  for (const delta of deltas) checkDelta(delta, base)
  return {
    terms: inFileOrder(checked, ({ target, shape }) => ({ target, kind: shape.join() })),
    deltas,
  }
}

function checkedTerms(
  name: string,
  { x, y, d }: Partial<Parts>,
  parts: Checkpoint,
  base: Checkpoint | undefined,
  names: BaseNames | undefined,
): StoredTerms {
  const missing = Object.entries({ x, y, d }).find(([, tensor]) => tensor === undefined)?.[0]
  if (x === undefined || y === undefined || d === undefined)
    throw wrong(name, `expected ${name}.${missing} in ${parts.name}, found none`)
  for (const [tensor, dtype] of [
    [x, 'I8'],
    [y, 'I8'],
    [d, 'F32'],
  ] as const)
    if (tensor.dtype !== dtype) throw wrong(tensor.name, `expected ${dtype}, found ${tensor.dtype}`)
  const [rows, terms] = x.shape
  if (x.shape.length !== 2 || terms > MAX_TERMS)
    throw wrong(x.name, `expected the shape [rows, p] with p up to ${MAX_TERMS}, found [${x.shape}]`)
  if (y.shape.length < 2 || y.shape[0] !== terms)
    throw wrong(
      y.name,
      `expected the shape [${terms}, columns] beside ${x.name} [${x.shape}], found [${y.shape}]`,
    )
  if (d.shape.join() !== `${terms}`)
    throw wrong(d.name, `expected the shape [${terms}] beside ${x.name} [${x.shape}], found [${d.shape}]`)
  const shape = [rows, ...y.shape.slice(1)]
  if (base === undefined) return { target: name, shape, terms, x, y, d }
  // An author may name the module instead of its weight.
  const weight = names!.find(name) ?? names!.find(`${name}.weight`)
  const own = weight && tilingOf(weight.shape)
  if (weight === undefined || own?.rows !== rows || own.cols !== tilingOf(y.shape).cols) {
    throw new TritswapError(
      'base',
      `Cannot pack the terms of ${name}: expected a weight of shape [${shape}] in ${base.name}, found ${weight === undefined ? 'none' : `${weight.name} [${weight.shape}]`}; give the base that they were made for`,
      { fields: { tensor: name, shape, found: weight?.shape } },
    )
  }
  return { target: weight.name, shape: weight.shape, terms, x, y, d }
}

function checkDelta({ name, dtype, shape }: StoredTensor, base: Checkpoint | undefined): void {
  if (!['F32', 'F16'].includes(dtype))
    throw wrong(name, `expected terms <target>.x, .y and .d, or a delta in F16 or F32, found ${dtype}`)
  const found = base?.tensors.get(name)
  if (base === undefined || found?.shape.join() === shape.join()) return
  throw new TritswapError(
    'base',
    `Cannot pack ${name}: expected a tensor of shape [${shape}] in ${base.name}, found ${found === undefined ? 'none' : `[${found.shape}]`}; give the base that the delta was made for`,
    { fields: { tensor: name, shape } },
  )
}

/** The section of a target's terms; undefined where they change nothing. */
async function sectionOf({
  shape,
  terms,
  x,
  y,
  d,
}: StoredTerms): Promise<ReturnType<typeof packed> | undefined> {
  const [left, right] = [await signsOf(x), await signsOf(y)]
  const scales = await readFloats(d)
  const sum = scales.reduce((most, scale) => Math.fround(most + Math.abs(scale)), 0)
  if (!Number.isFinite(sum)) throw wrong(d.name, `expected scales with a finite sum, found ${[...scales]}`)
  const [rows, cols] = [left.length / terms, right.length / terms]
  const own = new Int8Array(left.length)
  for (let row = 0; row < rows; row++)
    for (let t = 0; t < terms; t++) own[t * rows + row] = left[row * terms + t]
  const moves = scales.some(
    (scale, t) =>
      scale !== 0 &&
      own.subarray(t * rows, (t + 1) * rows).some((entry) => entry !== 0) &&
      right.subarray(t * cols, (t + 1) * cols).some((entry) => entry !== 0),
  )
  return moves ? packed(shape, { scales, x: own, y: right }) : undefined
}

async function signsOf(tensor: StoredTensor): Promise<Int8Array> {
  const bytes = await readBytes(tensor)
  const values = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const index = values.findIndex((value) => value < -1 || value > 1)
  if (index < 0) return values
  throw wrong(tensor.name, `expected −1, 0 or 1, found ${values[index]} at index ${index}`)
}

function wrong(tensor: string, why: string): TritswapError {
  return new TritswapError('input', `Cannot pack ${tensor}: ${why}`, { fields: { tensor } })
}
