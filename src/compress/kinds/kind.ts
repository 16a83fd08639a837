/**
 * What a kind of adapter is whose file holds neither LoRA pairs nor (IA)³ vectors: its tensors, module by module, and the
 * change of the module's weight that they make. Weights are seen as [outputs, inputs] here, an embedding as [tokens,
 * width], the height and width of a convolution's kernel among its inputs.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { isFloat } from '../dtypes.ts'
import type { Matrix } from '../matrices.ts'
import type { PathPatterns } from '../path_patterns.ts'
import { placeholder } from '../placeholders.ts'
import { readBytes, readFloats, type StoredTensor } from '../safetensors.ts'
import { notFinite } from '../task_vector.ts'

export interface AdapterKind {
  /** What people call the method. */
  label: string
  /** What a module's tensors are called after its path. */
  parts: readonly string[]
  /** Names of tensors that all modules share. */
  shared?: readonly string[]
  /** Fields of adapter_config.json that it reads, and those of its training that change no meaning. */
  fields: readonly string[]
  /** peft changes all modules that share a weight together. */
  followsTies?: boolean
  /** Why a configuration is not supported. */
  refusal?(config: Config): string | undefined
  /** Sizes of the weight as far as the tensors tell them, for adapters without a base. */
  size?(module: Module): { rows: number; cols: number } | undefined
  /**
   * What the tensors of a module do. Values are read when they are asked for.
   * @throws {TritswapError} `input` for tensors of other shapes, `unsupported`
   */
  change(module: Module): Change
}

export type Config = Readonly<Record<string, unknown>>

export interface Change {
  weight?: WeightChange
  /** What is added to the module's bias. */
  bias?: () => Promise<Matrix>
}

export type WeightChange =
  /** left [rows, rank] · right [rank, cols] is added. */
  | { kind: 'product'; rank: number; factors: () => Promise<{ left: Matrix; right: Matrix }> }
  /** A matrix is added. */
  | { kind: 'delta'; values: () => Promise<Matrix> }
  /** A matrix is added that is 0 but at few positions. */
  | { kind: 'sparse'; values: () => Promise<Matrix> }

/** What a kind is told of a module. */
export interface ModuleSource {
  path: string
  config: Config
  parts: ReadonlyMap<string, StoredTensor>
  shared: ReadonlyMap<string, StoredTensor>
  rankPattern: PathPatterns
  alphaPattern: PathPatterns
  /** Sizes of the weight, where a base or the tensors tell. */
  size?: { rows: number; cols: number }
  /** Of a convolution: inputs of a filter, height, width. */
  filter?: readonly number[]
  /** Values of the weight; undefined without a base. */
  weight?: () => Promise<Matrix>
  bias?: () => Promise<Matrix>
}

/** A module of an adapter, and the weight that it changes. */
export class Module {
  readonly path: string
  readonly config: Config
  readonly #source: ModuleSource

  constructor(source: ModuleSource) {
    this.path = source.path
    this.config = source.config
    this.#source = source
  }

  get rows(): number {
    return this.#sized().rows
  }

  get cols(): number {
    return this.#sized().cols
  }

  /** Inputs, height and width of a convolution's filter. */
  get filter(): readonly number[] | undefined {
    return this.#source.filter
  }

  has(part: string): boolean {
    return this.#source.parts.has(part)
  }

  /** @throws {TritswapError} `input` where the file does not hold it */
  part(name: string): StoredTensor {
    const tensor = this.#source.parts.get(name) ?? this.#source.shared.get(name)
    if (tensor !== undefined) return tensor
    throw new TritswapError(
      'input',
      `Cannot compress what is trained for ${this.path}: expected its ${name} in the file, found ${[...this.#source.parts.keys()].join(', ')}`,
      { fields: { module: this.path, expected: name } },
    )
  }

  /**
   * A part of the shape that it must have; −1 stands for any size.
   * @throws {TritswapError} `input`
   */
  shaped(name: string, ...shape: readonly number[]): StoredTensor {
    const tensor = this.part(name)
    if (tensor.weights === 0) throw placeholder(tensor)
    const fits =
      tensor.shape.length === shape.length && shape.every((size, i) => size < 0 || size === tensor.shape[i])
    if (fits && (isFloat(tensor.dtype) || /^[IU]/.test(tensor.dtype))) return tensor
    const expected = shape.map((size) => (size < 0 ? '?' : size))
    throw new TritswapError(
      'input',
      `Cannot compress ${tensor.name}: expected a shape of [${expected}], found ${tensor.dtype} [${tensor.shape}]; give the base that the adapter was trained on, or leave it out with --exclude`,
      { fields: { tensor: tensor.name, expected, found: tensor.shape } },
    )
  }

  /** A number of the configuration. @throws {TritswapError} `input` for anything else */
  number(field: string): number {
    const value = this.config[field]
    if (typeof value === 'number' && Number.isFinite(value)) return value
    throw new TritswapError(
      'input',
      `Cannot compress what is trained for ${this.path}: expected a number as ${field} of adapter_config.json, found ${JSON.stringify(value)?.slice(0, 60)}`,
      { fields: { module: this.path, field } },
    )
  }

  /** `r` or `alpha` of this module. */
  patterned(field: 'r' | 'alpha'): number {
    const patterns = field === 'r' ? this.#source.rankPattern : this.#source.alphaPattern
    return patterns.valueOf(this.path) ?? this.number(field)
  }

  /** The weight of the base. @throws {TritswapError} `input` without a base */
  weight(): Promise<Matrix> {
    if (this.#source.weight === undefined) throw this.#baseNeeded()
    return this.#source.weight()
  }

  /** The bias of the base, as a matrix of one row; undefined where the module has none. */
  get bias(): (() => Promise<Matrix>) | undefined {
    return this.#source.bias
  }

  #sized(): { rows: number; cols: number } {
    if (this.#source.size === undefined) throw this.#baseNeeded()
    return this.#source.size
  }

  #baseNeeded(): TritswapError {
    return new TritswapError(
      'input',
      `Cannot compress what is trained for ${this.path} without the base: this kind of adapter changes it by what its weight is; give the base with --base`,
      { fields: { module: this.path } },
    )
  }
}

/** Values of a stored tensor as a matrix: its first size, and all others together. @throws {TritswapError} `input` for NaN */
export async function valuesOf(tensor: StoredTensor): Promise<Matrix> {
  const values = await readFloats(tensor)
  const at = values.findIndex((value) => !Number.isFinite(value))
  if (at >= 0) throw notFinite(tensor.name, at, values[at])
  const rows = tensor.shape.length > 1 ? tensor.shape[0] : 1
  return { rows, cols: values.length / rows, values: Float64Array.from(values) }
}

/** Elements of the integer types that positions are saved in; on Windows peft saves them as floats. */
const INTEGERS: Readonly<Record<string, (bytes: ArrayBuffer) => ArrayLike<number | bigint>>> = {
  U8: (bytes) => new Uint8Array(bytes),
  I8: (bytes) => new Int8Array(bytes),
  I16: (bytes) => new Int16Array(bytes),
  I32: (bytes) => new Int32Array(bytes),
  I64: (bytes) => new BigInt64Array(bytes),
}

/** Positions in a stored tensor, flat. @throws {TritswapError} `input` for anything but whole numbers */
export async function positionsIn(tensor: StoredTensor): Promise<number[]> {
  const read = INTEGERS[tensor.dtype]
  const values =
    read === undefined ? await readFloats(tensor) : read((await readBytes(tensor)).slice().buffer)
  return Array.from(values as ArrayLike<number | bigint>, (value, i) => {
    const position = Number(value)
    if (!Number.isSafeInteger(position)) throw notFinite(tensor.name, i, position)
    return position
  })
}

export function isOn(value: unknown): boolean {
  return value === true
}

/** Whether factors are few beside the weight that they change; a product of more is formed as a matrix. */
export function isFew(rank: number, rows: number, cols: number): boolean {
  return rank * 2 <= Math.min(rows, cols)
}
