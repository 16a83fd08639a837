/**
 * The table of a `.trit` file: what it holds, where, and for which base. Stored as deflated JSON; read with every
 * field checked, because it comes from the network.
 *
 * @module
 */
import { type GenerationSettings, settingsOf, wrongSetting } from '../source/generation_settings.ts'
import { parseJsonText } from '../source/json.ts'
import { type BaseBindings, bindingsFrom } from './bindings.ts'
import { codecFrom, codecOf, codecsOf, DEFAULT_CODEC, summaryOf, type TritTensor } from './codecs/index.ts'
import { WEIGHT_DTYPES, type WeightDtype } from './dtype.ts'
import {
  array,
  integer,
  invalid,
  number,
  object,
  oneOf,
  optionalHash,
  optionalNumber,
  optionalText,
  overLimit,
  shapeOf,
  text,
} from './fields.ts'
import {
  MAX_INVOCATION,
  MAX_NAME_LENGTH,
  MAX_PAYLOAD_BYTES,
  MAX_RANK,
  MAX_SOURCES,
  MAX_TABLE_JSON,
  MAX_TENSOR_WEIGHTS,
  MAX_TENSORS,
  SKETCH_VALUES,
} from './limits.ts'
import { MAX_NUMBER, NUMBER_PLACE, nameWithNumber, numberedName } from './numbered.ts'
import { sketchFromBase64, sketchToBase64, valuesStored } from './sketch.ts'
import type { DistributiveOmit, TensorCommon, TritKind } from './tensor.ts'

export type { DenseTensor } from './codecs/dense.ts'
export type { ExactTensor } from './codecs/exact.ts'
export type { TritTensor } from './codecs/index.ts'
export type { TermsTensor } from './codecs/terms.ts'
export type { TernaryTensor } from './codecs/ternary.ts'
export type { ModuleLayout, TensorRole, TritKind } from './tensor.ts'

/** What the expert's tensors are to the base (ComPEFT section 2): theta_init is the base, 0 or 1; of virtual tokens (`prompt`) 0. */
export type TritMethod = 'full' | 'lora' | 'ia3' | 'prompt'

/** How the kept entries were chosen and valued. Nothing depends on it: it is for `inspect` and model cards. */
export interface CompressionRecord {
  density?: number
  alpha?: number
  scale?: string
  threshold?: string
  score?: string
}

export interface BaseRecord {
  /** For people to read; nothing relies on it. */
  name?: string
  /** SHA-256 of the source checkpoint (`fingerprintOf`), lower-case hex. */
  fingerprint?: string
  /**
   * Eight f16 values per distinct target, in order of first appearance (`sketch.ts`), as u16. Where the file stores fewer, the
   * others are NaN.
   */
  sketch?: Uint16Array
  /** What the weights that the sketch is of had been rounded to; undefined for those of a float checkpoint. */
  dtype?: WeightDtype
}

export interface SourceRecord {
  name: string
  sha256?: string
}

export interface TritTable {
  kind: TritKind
  method: TritMethod
  tensors: TritTensor[]
  base: BaseRecord
  compression: CompressionRecord
  sources: SourceRecord[]
  /**
   * Of activated LoRA: the expert acts from the last occurrence of these tokens in the prompt on, its first token included, and
   * not at all where there is none.
   */
  invocation?: number[]
  /** `base` only: graph inputs that the tensors feed. */
  bindings?: BaseBindings
  label?: string
  description?: string
  prompt?: string
  /** What chats begin with. */
  system?: string
  /** How text is generated where a call does not say. */
  generation?: GenerationSettings
  licence?: string
  createdWith?: string
}

/** A tensor before it has a place in the payload. */
export type NewTensor = DistributiveOmit<TritTensor, 'offset'>

/** The method of `lora` with an invocation, as files name it. */
const ACTIVATED = 'alora'

/** Distinct targets in order of first appearance: the order of the sketch. */
export function targetsOf(tensors: readonly { target: string }[]): string[] {
  return [...new Set(tensors.map((tensor) => tensor.target))]
}

/** JSON of a table. Defaults are left out; floats are the shortest decimals that read back to the same f32. */
export function tableToJson(table: Omit<TritTable, 'tensors'> & { tensors: readonly NewTensor[] }): string {
  const { base, compression, sources, tensors, ...rest } = table
  return JSON.stringify({
    ...rest,
    // Readers that know nothing of invocations would let it act everywhere: they know no such method, and refuse it.
    ...(table.invocation !== undefined && { method: ACTIVATED }),
    base: { ...base, ...sketchToJson(base.sketch) },
    compression,
    sources,
    tensors: folded(tensors),
  })
}

/** Fields of a sketch: how many values of each target it has is left out where it is all of them. */
function sketchToJson(sketch: Uint16Array | undefined) {
  if (sketch === undefined) return {}
  const stored = valuesStored(sketch)
  return {
    sketch: sketchToBase64(sketch, stored),
    sketchValues: stored === SKETCH_VALUES ? undefined : stored,
  }
}

function tensorToJson(tensor: NewTensor) {
  const { name, shape, role, target, codec, bytes, layout, feedforward, scaling } = tensor
  return {
    name,
    shape,
    role: role === 'delta' ? undefined : role,
    target: target === name ? undefined : target,
    codec: codec === DEFAULT_CODEC ? undefined : codec,
    ...codecOf(tensor).fieldsToJson(tensor),
    bytes,
    scaling,
    layout,
    feedforward: feedforward || undefined,
  }
}

/**
 * Tensors of terms that follow one another and differ in one number of their names as one entry. Readers of the time before
 * `numbers` refuse their codec, so they never see one.
 */
function folded(tensors: readonly NewTensor[]): object[] {
  const out: Folded[] = []
  let key: string | undefined
  for (const tensor of tensors) {
    const entry = tensorToJson(tensor)
    const numbered = summaryOf(tensor).terms === undefined ? undefined : numberedEntry(entry)
    const own = numbered && JSON.stringify({ ...numbered.entry, bytes: undefined })
    const last = own !== undefined && own === key ? out.at(-1) : undefined
    if (last?.numbers !== undefined) {
      last.numbers.push(numbered!.number)
      last.bytes.push(tensor.bytes)
    } else {
      out.push({
        ...(numbered?.entry ?? entry),
        bytes: [tensor.bytes],
        numbers: numbered && [numbered.number],
      })
    }
    key = own
  }
  return out.map((entry) => {
    const [first, ...others] = entry.bytes
    return { ...entry, bytes: others.every((one) => one === first) ? first : entry.bytes }
  })
}

/** An entry of some tensors, and the bytes of each. */
type Folded = Omit<ReturnType<typeof tensorToJson>, 'bytes'> & { bytes: number[]; numbers?: number[] }

/**
 * Reads and checks a table.
 * @throws {TritswapError} `format` naming the field, what it should be and what it is; `limit` for sizes.
 */
export function tableFromJson(json: string, payloadBytes: number): TritTable {
  const value = parseJsonText(json, 'the table', MAX_TABLE_JSON)
  const root = object(value, 'table')
  const kind = oneOf(root.kind, 'kind', ['expert', 'base'] as const)
  const list = array(root.tensors, 'tensors', MAX_TENSORS)
  if (list.length === 0) throw invalid('tensors', 'at least one tensor', 'none')
  const names = new Set<string>()
  const tensors: TritTensor[] = []
  let offset = 0
  for (const [i, item] of unfolded(list)) {
    const tensor = tensorFromJson(item, `tensors[${i}]`, offset)
    if (names.has(tensor.name)) throw invalid(`tensors[${i}].name`, 'a name that is not taken', tensor.name)
    names.add(tensor.name)
    const codec = codecOf(tensor)
    if (!codec.kinds.includes(kind) || (kind === 'base' && tensor.role !== 'delta')) {
      const owner = kind === 'base' ? 'a base' : 'an expert'
      const expected = `a tensor as ${owner} has: ${codecsOf(kind).join(', or ')}`
      throw invalid(`tensors[${i}]`, expected, `${tensor.codec} ${tensor.role}`)
    }
    if (codec.onlyDeltas && tensor.role !== 'delta')
      throw invalid(`tensors[${i}].role`, `delta, as of all in ${tensor.codec}`, tensor.role)
    codec.checkBytes(tensor)
    offset += tensor.bytes
    tensors.push(tensor)
  }
  if (offset !== payloadBytes)
    throw invalid('payload', `${offset} bytes, the sum of its sections`, payloadBytes)

  const base = object(root.base ?? {}, 'base')
  const compression = object(root.compression ?? {}, 'compression')
  const sources = array(root.sources ?? [], 'sources', MAX_SOURCES)
  const method = oneOf(root.method ?? 'full', 'method', ['full', 'lora', 'ia3', 'prompt', ACTIVATED] as const)
  return {
    kind,
    method: method === ACTIVATED ? 'lora' : method,
    tensors,
    base: {
      name: optionalText(base.name, 'base.name'),
      fingerprint: optionalHash(base.fingerprint, 'base.fingerprint'),
      sketch: sketchFromBase64(
        base.sketch,
        targetsOf(tensors).length,
        integer(base.sketchValues ?? SKETCH_VALUES, 'base.sketchValues', 1, SKETCH_VALUES),
      ),
      dtype: base.dtype === undefined ? undefined : oneOf(base.dtype, 'base.dtype', WEIGHT_DTYPES),
    },
    compression: {
      density: optionalNumber(compression.density, 'compression.density'),
      alpha: optionalNumber(compression.alpha, 'compression.alpha'),
      scale: optionalText(compression.scale, 'compression.scale'),
      threshold: optionalText(compression.threshold, 'compression.threshold'),
      score: optionalText(compression.score, 'compression.score'),
    },
    sources: sources.map((item, i) => {
      const source = object(item, `sources[${i}]`)
      return {
        name: text(source.name, `sources[${i}].name`),
        sha256: optionalHash(source.sha256, `sources[${i}].sha256`),
      }
    }),
    invocation: method === ACTIVATED ? invocationFrom(root.invocation) : undefined,
    bindings:
      kind === 'base' && root.bindings !== undefined ? bindingsFrom(root.bindings, tensors) : undefined,
    label: optionalText(root.label, 'label'),
    description: optionalText(root.description, 'description'),
    prompt: optionalText(root.prompt, 'prompt'),
    system: optionalText(root.system, 'system'),
    generation: root.generation === undefined ? undefined : generationFrom(root.generation),
    licence: optionalText(root.licence, 'licence'),
    createdWith: optionalText(root.createdWith, 'createdWith'),
  }
}

/** @throws {TritswapError} `format`; `limit` for more than {@link MAX_INVOCATION} */
function invocationFrom(value: unknown): number[] {
  const ids = array(value, 'invocation', MAX_INVOCATION)
  if (ids.length === 0) throw invalid('invocation', 'at least one token', 'none')
  return ids.map((id, i) => integer(id, `invocation[${i}]`, 0, MAX_NUMBER))
}

function nameOf(value: unknown, field: string): string {
  const name = text(value, field, MAX_NAME_LENGTH)
  if (name === '') throw invalid(field, 'a name', name)
  return name
}

function generationFrom(value: unknown): GenerationSettings {
  const settings = object(value, 'generation')
  const wrong = wrongSetting(settings)
  if (wrong !== undefined) throw invalid(`generation.${wrong.field}`, wrong.expected, wrong.found)
  return settingsOf(settings)
}

/** An entry with the place of a number in its name, and in its target if that has another name. */
function numberedEntry<E extends { name: string; target?: string }>(
  entry: E,
): { entry: E; number: number } | undefined {
  const name = numberedName(entry.name)
  if (name === undefined || entry.target === undefined)
    return name && { entry: { ...entry, name: name.pattern }, number: name.number }
  const target = numberedName(entry.target)
  if (target?.number !== name.number) return undefined
  return { entry: { ...entry, name: name.pattern, target: target.pattern }, number: name.number }
}

/**
 * Entries one by one, with their position in the table: one with `numbers` is a tensor for each of them.
 * @throws {TritswapError} `format`; `limit` for more than {@link MAX_TENSORS}
 */
function* unfolded(list: readonly unknown[]): Generator<[number, Record<string, unknown>]> {
  let count = 0
  for (const [i, value] of list.entries()) {
    const item = object(value, `tensors[${i}]`)
    const numbers =
      item.numbers === undefined
        ? undefined
        : array(item.numbers, `tensors[${i}].numbers`, MAX_TENSORS).map((number, n) =>
            integer(number, `tensors[${i}].numbers[${n}]`, 0, MAX_NUMBER),
          )
    count += numbers?.length ?? 1
    if (count > MAX_TENSORS) throw overLimit('tensors', count, MAX_TENSORS)
    if (numbers === undefined) {
      yield [i, item]
      continue
    }
    if (numbers.length === 0) throw invalid(`tensors[${i}].numbers`, 'at least one number', 'none')
    const bytes = Array.isArray(item.bytes) ? item.bytes : undefined
    if (bytes !== undefined && bytes.length !== numbers.length)
      throw invalid(`tensors[${i}].bytes`, `one for each of the ${numbers.length} numbers`, bytes.length)
    const name = patternFrom(item.name, `tensors[${i}].name`)
    const target = item.target === undefined ? undefined : patternFrom(item.target, `tensors[${i}].target`)
    for (const [n, number] of numbers.entries())
      yield [
        i,
        {
          ...item,
          name: nameWithNumber(name, number),
          target: target && nameWithNumber(target, number),
          bytes: bytes === undefined ? item.bytes : bytes[n],
        },
      ]
  }
}

function patternFrom(value: unknown, field: string): string {
  const pattern = text(value, field, MAX_NAME_LENGTH)
  if (pattern.split(NUMBER_PLACE).length === 2) return pattern
  throw invalid(field, `a name with one ${NUMBER_PLACE} where its numbers go`, pattern)
}

function tensorFromJson(item: Record<string, unknown>, at: string, offset: number): TritTensor {
  const name = nameOf(item.name, `${at}.name`)
  const shape = shapeOf(item.shape, `${at}.shape`, MAX_RANK, MAX_TENSOR_WEIGHTS)
  const common: TensorCommon = {
    name,
    shape,
    role: oneOf(item.role ?? 'delta', `${at}.role`, ['delta', 'loraA', 'loraB', 'ia3', 'virtual'] as const),
    target: item.target === undefined ? name : nameOf(item.target, `${at}.target`),
    bytes: integer(item.bytes, `${at}.bytes`, 0, MAX_PAYLOAD_BYTES),
    offset,
  }
  if (item.scaling !== undefined) common.scaling = number(item.scaling, `${at}.scaling`)
  if (item.layout !== undefined) {
    common.layout = oneOf(item.layout, `${at}.layout`, ['linear', 'conv1d', 'conv2d', 'embedding'] as const)
  }
  if (item.feedforward !== undefined) common.feedforward = item.feedforward === true
  const codec = codecFrom(item.codec ?? DEFAULT_CODEC, `${at}.codec`)
  return { ...common, codec: codec.name, ...codec.fieldsFrom(item, at, shape) } as TritTensor
}
