/**
 * Which checkpoint tensor each parameter of a graph is, and how its elements lie in the initializer. Where the
 * checkpoint is at hand its values decide; otherwise names and the operators that read the parameter do.
 *
 * @module
 */
import { fromHalf } from '../../format/float16.ts'
import { type Placement, tilingOf, weightsOf } from '../../format/index.ts'
import type { Use } from '../graph/graph_index.ts'
import { type InitializerData, readElements } from '../proto/initializer.ts'
import type { Checkpoint } from './checkpoint.ts'
import { matchName, partsOfFused, sharedSuffix } from './names.ts'
import type { Layout, Parameter, ParameterGroup } from './parameters.ts'

/** A parameter with its data and the graph file it came from. */
export interface LocatedParameter {
  parameter: Parameter
  data: InitializerData
  file: string
}

/** A parameter, or the part of one initializer's readers that is one, with the tensors that fill it. */
export interface ResolvedParameter extends LocatedParameter {
  /** Readers to point at a graph input of their own; undefined when it is all of them. */
  uses?: Use[]
  parts: Placement[]
  /** Checkpoint shape of every tensor in `parts`. */
  shapes: ReadonlyMap<string, readonly number[]>
  /** What the graph has added to the checkpoint's values. */
  shift?: number
}

export interface Resolution {
  resolved: ResolvedParameter[]
  /** Parameters that stay in the graph because the checkpoint holds no such values. */
  unmatched: LocatedParameter[]
}

interface Candidate {
  parts: Placement[]
  shapes: Map<string, readonly number[]>
  shift?: number
}

/** Models whose norms multiply with 1 + weight: an exporter that folds constants leaves the sum in the graph. */
const UNIT_NORMS = /^(gemma|gemma2|gemma3|gemma3_text|paligemma|recurrent_gemma|qwen3_next|nemotron)$/

/** Likeness of a name that is the wanted one, above that of any other. */
const EXACT = 1000

/** Values compared per tensor: two different trained tensors never agree in all of them. */
const SAMPLES = 32

/**
 * Resolves the parameters of all graphs of one model together, so that a tensor shared between graphs (or tied
 * inside one) gets one name.
 */
export async function resolveParameters(
  located: LocatedParameter[],
  { checkpoint, modelType = '' }: { checkpoint?: Checkpoint; modelType?: string } = {},
): Promise<Resolution> {
  return checkpoint === undefined
    ? resolveByName(located, UNIT_NORMS.test(modelType) ? 1 : undefined)
    : resolveByContent(located, checkpoint)
}

async function resolveByContent(located: LocatedParameter[], checkpoint: Checkpoint): Promise<Resolution> {
  const tensors = new CheckpointSamples(checkpoint)
  const resolution: Resolution = { resolved: [], unmatched: [] }
  for (const item of located) {
    const buffer = new BufferSamples(item.data)
    const found: { group: ParameterGroup; match: Candidate }[] = []
    for (const group of item.parameter.groups) {
      const match =
        (await matchWhole(group, item, buffer, tensors)) ?? (await matchParts(group, item, buffer, tensors))
      if (match !== undefined) found.push({ group, match })
    }
    const named = item.parameter.groups.some(({ names }) => names.length > 0)
    if (found.length === 0) {
      if (named) resolution.unmatched.push(item)
    } else resolution.resolved.push(...split(item, found))
  }
  return resolution
}

/** One entry per set of tensors; readers move only where an exporter merged equal but separate tensors. */
function split(
  item: LocatedParameter,
  found: { group: ParameterGroup; match: Candidate }[],
): ResolvedParameter[] {
  const key = ({ parts }: Candidate) => parts.map(({ tensor }) => tensor).join()
  const byTensor = new Map<string, { uses: Set<Use>; match: Candidate }>()
  for (const { group, match } of found) {
    const known = byTensor.get(key(match))
    if (known === undefined) byTensor.set(key(match), { uses: new Set(group.uses), match })
    else for (const use of group.uses) known.uses.add(use)
  }
  const [first, ...rest] = byTensor.values()
  const separate = rest.filter(({ uses }) => ![...uses].some((use) => first.uses.has(use)))
  return [
    { ...item, ...first.match },
    ...separate.map(({ uses, match }) => ({ ...item, ...match, uses: [...uses] })),
  ]
}

async function matchWhole(
  group: ParameterGroup,
  { file, data }: LocatedParameter,
  buffer: BufferSamples,
  tensors: CheckpointSamples,
): Promise<Candidate | undefined> {
  const names = namesIn(file, group)
  let best: { candidate: Candidate; score: number; name: string } | undefined
  for (const [name, { shape }] of tensors.all) {
    // Likeness of names decides between equal values: tied tensors, and norms that are all ones.
    const score = Math.max(
      ...names.map((wanted, rank) => (wanted === name ? EXACT - rank : sharedSuffix(wanted, name))),
    )
    if (best !== undefined && score <= best.score) continue
    for (const layout of layoutsOf(shape, data.dims, group.layout)) {
      const part = placementOf(name, shape, layout)
      const values = await buffer.at(shape, part)
      const expected = await tensors.of(name)
      const shifts = group.norm ? [0, 1] : [0]
      const shift = shifts.find((by) =>
        sameValues(
          values,
          expected.map((value) => value + by),
          data,
        ),
      )
      if (shift === undefined) continue
      if (isConstant(expected) && names.every((wanted) => matchName(wanted, [name]) === undefined)) continue
      const candidate: Candidate = { parts: [part], shapes: new Map([[name, shape]]) }
      if (shift !== 0) candidate.shift = shift
      best = { candidate, score, name }
      break
    }
  }
  return best?.candidate
}

async function matchParts(
  group: ParameterGroup,
  { file, data }: LocatedParameter,
  buffer: BufferSamples,
  tensors: CheckpointSamples,
): Promise<Candidate | undefined> {
  for (const wanted of namesIn(file, group)) {
    const names = partsOfFused(wanted)?.map((part) => matchName(part, tensors.all.keys()))
    if (names === undefined || names.some((name) => name === undefined)) continue
    const shapes = new Map((names as string[]).map((name) => [name, tensors.all.get(name)!.shape]))
    const rows = Array.from(shapes.values(), (shape) => shape[0])
    for (const layout of [
      group.layout,
      group.layout === 'transposed' ? 'checkpoint' : 'transposed',
    ] as const) {
      const parts = fusedPlacements([...shapes.keys()], [...shapes.values()], rows, layout, data.dims)
      if (parts === undefined) continue
      let same = true
      for (const part of parts) {
        const values = await buffer.at(shapes.get(part.tensor)!, part)
        same &&= sameValues(values, await tensors.of(part.tensor), data)
      }
      if (same) return { parts, shapes }
    }
  }
  return undefined
}

async function resolveByName(items: LocatedParameter[], normShift: number | undefined): Promise<Resolution> {
  const unmatched = items.filter(({ parameter }) => parameter.folded)
  const all = items.filter(({ parameter }) => !parameter.folded)
  // What nothing names keeps the name that it has in the graph: an expert may still know it by its values.
  const located = all.map((item) => {
    const groups = item.parameter.groups.map((group) =>
      group.names.length > 0 ? group : { ...group, names: [item.parameter.tensor.name] },
    )
    return { ...item, parameter: { ...item.parameter, groups } }
  })
  const resolved: ResolvedParameter[] = []
  const buffers = new Map(located.map((item) => [item, new BufferSamples(item.data)]))
  const taken = new Map<string, ResolvedParameter>()
  const embeddings: ResolvedParameter[] = []
  // Embeddings first: what is tied to one takes its name. Those of an encoder later, whose graph says less of it.
  const embeds = (item: LocatedParameter) => item.parameter.groups.some((group) => group.embedding)
  const order = (item: LocatedParameter) => (embeds(item) ? Number(stemOf(item.file) === 'encoder') : 2)
  for (const item of [...located].sort((a, b) => order(a) - order(b))) {
    const tied = await tiedTo(item, embeddings, buffers)
    const named = tied === undefined ? namedGroups(item) : [{ group: item.parameter.groups[0], match: tied }]
    for (const entry of split(item, named)) {
      // Only where the sum was folded: in a graph that computes it, the parameter meets an Add first.
      if (item.parameter.groups.every(({ norm }) => norm) && normShift !== undefined) entry.shift = normShift
      if (tied === undefined) renameTensors(entry, (name) => inModule(entry.file, name))
      const [{ tensor }] = entry.parts
      const known = taken.get(tensor)
      if (known !== undefined && tied === undefined && !(await sameContent(entry, known, buffers))) {
        renameTensors(entry, (name) => `${stemOf(entry.file)}.${name}`)
      }
      if (known === undefined) taken.set(tensor, entry)
      if (embeds(item)) embeddings.push(entry)
      resolved.push(entry)
    }
  }
  resolved.sort(
    (a, b) =>
      located.findIndex(({ parameter }) => parameter === a.parameter) -
      located.findIndex(({ parameter }) => parameter === b.parameter),
  )
  return { resolved, unmatched }
}

/** The groups of a parameter with the names they get when nothing can be compared. */
function namedGroups({ parameter, data }: LocatedParameter): { group: ParameterGroup; match: Candidate }[] {
  const { groups } = parameter
  const own = groups[0].names.at(-1)!
  const embedding = groups.find((group) => group.embedding)
  // Module names of the readers are to be believed when one of them repeats the initializer's own name.
  const separate =
    embedding === undefined && groups.length > 1 && groups.some((group) => group.names[0] === own)
  if (separate)
    return groups.map((group) => ({ group, match: candidateOf(group.names[0], group, data.dims) }))
  const group = embedding ?? groups[0]
  const name =
    embedding !== undefined && embedding.names.length > 1 && groups.length > 1
      ? embedding.names[0]
      : group.names.at(-1)!
  return [{ group, match: candidateOf(name, group, data.dims) }]
}

function candidateOf(name: string, group: ParameterGroup, dims: readonly number[]): Candidate {
  const parts = group.fused && partsOfFused(name)
  if (parts !== undefined && group.fused !== undefined) {
    const inner = dims.length === 2 ? [group.layout === 'transposed' ? dims[0] : dims[1]] : []
    const shapes = group.fused.map((rows) => [rows, ...inner])
    const placements = fusedPlacements(parts, shapes, group.fused, group.layout, dims)
    if (placements !== undefined) {
      return { parts: placements, shapes: new Map(parts.map((part, i) => [part, shapes[i]])) }
    }
  }
  const layout = dims.length === 2 ? group.layout : 'checkpoint'
  const shape = layout === 'transposed' ? [dims[1], dims[0]] : [...dims]
  return { parts: [placementOf(name, shape, layout)], shapes: new Map([[name, shape]]) }
}

/** The embedding that holds the same matrix, in the same or in the other order. */
async function tiedTo(
  item: LocatedParameter,
  embeddings: readonly ResolvedParameter[],
  buffers: Map<LocatedParameter, BufferSamples>,
): Promise<Candidate | undefined> {
  if (item.data.dims.length !== 2) return undefined
  for (const embedding of embeddings) {
    const [[name, shape]] = embedding.shapes
    for (const layout of layoutsOf(shape, item.data.dims, item.parameter.groups[0].layout)) {
      const match: Candidate = { parts: [placementOf(name, shape, layout)], shapes: new Map([[name, shape]]) }
      const entry = { ...item, ...match }
      if (await sameContent(entry, embedding, buffers)) return match
    }
  }
  return undefined
}

async function sameContent(
  a: ResolvedParameter,
  b: ResolvedParameter,
  buffers: Map<LocatedParameter, BufferSamples>,
): Promise<boolean> {
  const samples = async (entry: ResolvedParameter) => {
    const [[name, shape]] = entry.shapes
    const buffer = [...buffers].find(([item]) => item.parameter === entry.parameter)![1]
    return { name, shape, values: await buffer.at(shape, entry.parts[0]) }
  }
  const [left, right] = [await samples(a), await samples(b)]
  return (
    left.shape.join() === right.shape.join() &&
    !isConstant(left.values) &&
    sameValues(left.values, right.values, coarser(a.data, b.data))
  )
}

type Precision = Pick<InitializerData, 'dtype' | 'quantized'>

function coarser(a: Precision, b: Precision): Precision {
  return { dtype: a.dtype === b.dtype ? a.dtype : 'float16', quantized: a.quantized ?? b.quantized }
}

function renameTensors(entry: ResolvedParameter, rename: (name: string) => string): void {
  entry.parts = entry.parts.map((part) => ({ ...part, tensor: rename(part.tensor) }))
  entry.shapes = new Map(Array.from(entry.shapes, ([name, shape]) => [rename(name), shape]))
}

/** `onnx/encoder_model_fp16.onnx` → `encoder`: the module that an encoder-decoder's graph holds. */
function stemOf(file: string): string {
  return file.split('/').at(-1)!.split(/[_.]/)[0]
}

/** The encoder of a pair is exported as a model of its own, its names without the module that holds it. */
function inModule(file: string, name: string): string {
  return stemOf(file) === 'encoder' && !name.split('.').includes('encoder') ? `encoder.${name}` : name
}

/** The names of a group, and the same below the module that the graph is an export of. */
function namesIn(file: string, group: ParameterGroup): string[] {
  return [...group.names, ...group.names.map((name) => `${stemOf(file)}.${name}`)]
}

/** Orders in which a tensor of `shape` can fill an initializer of `dims`, the expected one first. */
function layoutsOf(shape: readonly number[], dims: readonly number[], expected: Layout): Layout[] {
  const squeeze = (sizes: readonly number[]) => sizes.filter((size) => size !== 1).join()
  const layouts: Layout[] = []
  if (squeeze(shape) === squeeze(dims)) layouts.push('checkpoint')
  if (shape.length === 2 && dims.length === 2 && shape[0] === dims[1] && shape[1] === dims[0])
    layouts.push('transposed')
  return expected === 'transposed' ? layouts.reverse() : layouts
}

function placementOf(tensor: string, shape: readonly number[], layout: Layout): Placement {
  const { rows, cols } = tilingOf(shape)
  return layout === 'checkpoint'
    ? { tensor, offset: 0, rowStride: cols, colStride: 1 }
    : { tensor, offset: 0, rowStride: 1, colStride: rows }
}

/** Placements of tensors that lie one behind the other along the output dimension; undefined if they do not fill it. */
function fusedPlacements(
  tensors: string[],
  shapes: (readonly number[])[],
  rows: readonly number[],
  layout: Layout,
  dims: readonly number[],
): Placement[] | undefined {
  const total = rows.reduce((sum, count) => sum + count, 0)
  const inner = shapes[0].length === 2 ? shapes[0][1] : 1
  const filled = layout === 'transposed' ? [inner, total] : shapes[0].length === 2 ? [total, inner] : [total]
  if (filled.join() !== dims.join() || shapes.some((shape) => (shape[1] ?? 1) !== inner)) return undefined
  let start = 0
  return tensors.map((tensor, i) => {
    const offset = layout === 'transposed' ? start : start * inner
    start += rows[i]
    if (shapes[i].length === 1) return { tensor, offset, rowStride: rows[i], colStride: 1 }
    return layout === 'transposed'
      ? { tensor, offset, rowStride: 1, colStride: total }
      : { tensor, offset, rowStride: inner, colStride: 1 }
  })
}

/** Matrix positions that samples are taken at: spread, off the diagonal, the same for all tensors of a shape. */
function positionsOf(shape: readonly number[]): { row: number; col: number }[] {
  const { rows, cols } = tilingOf(shape)
  const weights = weightsOf(shape)
  return Array.from({ length: SAMPLES }, (_, i) => {
    const flat = Math.floor((((i + 0.5) * 0.618033988749895) % 1) * weights)
    return { row: Math.floor(flat / cols) % rows, col: flat % cols }
  })
}

/** Samples of an initializer under whichever reading of it is being tried. */
class BufferSamples {
  readonly #data: InitializerData
  readonly #cache = new Map<string, Promise<number[]>>()

  constructor(data: InitializerData) {
    this.#data = data
  }

  at(shape: readonly number[], { offset, rowStride, colStride }: Placement): Promise<number[]> {
    const key = [shape, offset, rowStride, colStride].join()
    let values = this.#cache.get(key)
    if (values === undefined) {
      values = Promise.all(
        positionsOf(shape).map(async ({ row, col }) => {
          const [value] = await readElements(this.#data, offset + row * rowStride + col * colStride, 1)
          return this.#data.dtype === 'float16' ? fromHalf(value) : value
        }),
      )
      this.#cache.set(key, values)
    }
    return values
  }
}

class CheckpointSamples {
  readonly #checkpoint: Checkpoint
  readonly #cache = new Map<string, Promise<number[]>>()

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint
  }

  get all(): Checkpoint['tensors'] {
    return this.#checkpoint.tensors
  }

  of(name: string): Promise<number[]> {
    let values = this.#cache.get(name)
    if (values === undefined) {
      const { shape } = this.#checkpoint.tensors.get(name)!
      const { cols } = tilingOf(shape)
      values = Promise.all(
        positionsOf(shape).map(
          async ({ row, col }) => (await this.#checkpoint.read(name, row * cols + col, 1))[0],
        ),
      )
      this.#cache.set(name, values)
    }
    return values
  }
}

/** Largest ‖found − expected‖ / ‖expected‖ of 4-bit weights; unrelated ones are at about 1.4. */
const QUANTIZED_DISTANCE = 0.35

/** Equal but for the rounding of the export. */
function sameValues(
  found: readonly number[],
  expected: readonly number[],
  { dtype, quantized }: Precision,
): boolean {
  if (quantized) {
    const square = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0)
    const distance = square(found.map((value, i) => value - expected[i]))
    return distance <= QUANTIZED_DISTANCE ** 2 * square(expected)
  }
  // Converters to f16 lift values below 1e-7 to it.
  const relative = dtype === 'float16' ? 2 ** -10 : 2 ** -20
  const absolute = dtype === 'float16' ? 2e-7 : 1e-12
  return found.every(
    (value, i) => Math.abs(value - expected[i]) <= relative * Math.abs(expected[i]) + absolute,
  )
}

function isConstant(values: readonly number[]): boolean {
  return values.every((value) => value === values[0])
}
