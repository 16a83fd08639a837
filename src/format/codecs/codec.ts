/**
 * What a codec is to the rest of the program. A new codec is one file beside this one that exports a {@link Codec}, and
 * one line of the registry in `index.ts`: everything else asks the registry.
 *
 * @module
 */
import type { FloatDtype } from '../dtype.ts'
import type { Steps, StepUnit } from '../steps.ts'
import type { CodedTensor, Described, TritKind } from '../tensor.ts'
import type { NBitsCode } from './nbits_decode.ts'
import type { Terms } from './terms_code.ts'
import type { TernaryCode, TernaryEntries } from './ternary_decode.ts'

export interface Codec<T extends CodedTensor = CodedTensor> {
  /** `codec` in the table. */
  readonly name: T['codec']
  /** Files that may hold it. */
  readonly kinds: readonly TritKind[]
  /** Its tensors are changes of their targets, and no factors or scales of one. */
  readonly onlyDeltas?: true

  /**
   * Reads the fields that a table entry has for this codec alone.
   * @param entry - the entry as it came from the network
   * @param at - path of the entry, for messages
   * @param shape - of the tensor, already checked
   * @throws {TritswapError} `format` naming the field, what it should be and what it is; `limit` for sizes
   */
  fieldsFrom(entry: Record<string, unknown>, at: string, shape: readonly number[]): Omit<T, keyof CodedTensor>

  /** The same fields as JSON, defaults left out. */
  fieldsToJson(tensor: Described<T>): Record<string, unknown>

  /**
   * Refuses a section whose length contradicts the fields, before anything is allocated for it. Besides the values
   * themselves, decoding what passes must allocate no more than a small multiple of the bytes of the section.
   * @throws {TritswapError} `format`, `limit`
   */
  checkBytes(tensor: T): void

  /** What the table alone tells of the values. */
  summary(tensor: Described<T>): TensorSummary

  /** What the bytes of the section are to a kernel. */
  form(tensor: Described<T>): SectionForm

  /**
   * The values of a section in flat row-major order: the reference for every other way of reading it.
   * @param section - as many bytes as the table says, at any alignment
   * @throws {TritswapError} `format` for bytes that contradict the table
   */
  decode(tensor: T, section: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer>

  /** Where they are terms: the vectors and scales. @throws {TritswapError} `format` */
  terms?(tensor: T, section: Uint8Array<ArrayBuffer>): Terms

  /** Where they are steps from the base's own weights: what they are and where. @throws {TritswapError} `format` */
  steps?(tensor: T, section: Uint8Array<ArrayBuffer>): Steps

  /** Where a short section can have any number of values: the values in runs of at most {@link PIECE_WEIGHTS}. */
  pieces?(tensor: T, section: Uint8Array<ArrayBuffer>): Iterable<Float32Array<ArrayBuffer>>

  /** Where the summary has a `scale`: the entries that are not 0, in any order. */
  entries?(tensor: T, section: Uint8Array<ArrayBuffer>): TernaryEntries

  /**
   * Where any run of elements can be decoded alone: elements `[from, from + count)` as a vector of their own.
   * @param from - a multiple of {@link PIECE_WEIGHTS}
   */
  slice?(tensor: T, from: number, count: number): T
}

/** What `inspect`, `merge` and lists of experts tell of a tensor. */
export interface TensorSummary {
  /** Entries that are stored: every weight, unless the codec is sparse. */
  kept: number
  /** Magnitude of every kept entry, where they share one: the values are ternary. */
  scale?: number
  /** How values, or the scales of quantized ones, are stored. */
  dtype?: FloatDtype
  /** Bits of a quantized weight. */
  bits?: number
  /** Ternary rank-1 matrices that the tensor is the sum of. */
  terms?: number
  /** The values are steps from the base's own weights, counted in this type. */
  unit?: StepUnit
  /** Likewise: entries that a base held in binary16 does not come out exactly with. */
  roundedInF16?: number
}

/**
 * The forms in which kernels read sections. A registry line cannot add a kernel: a codec whose sections have another
 * form says `opaque`, and its tensors are decoded by the CPU and reach the GPU as f32 values.
 */
export type SectionForm =
  /** A ternary section: block lengths, then the code words of all blocks. The GPU makes an index of the blocks. */
  | { kind: 'golomb'; code: TernaryCode; scale: number }
  /** Values in flat row-major order. */
  | { kind: 'dense'; dtype: FloatDtype }
  /** Integers in quantization blocks, their scales and zero points. */
  | { kind: 'nbits'; code: NBitsCode }
  /** Vectors of ternary rank-1 terms. The CPU unpacks them for the kernels, five entries a byte to sixteen a word. */
  | { kind: 'terms'; terms: number }
  /** Steps of weights. The CPU unpacks them for the kernels, with a position each. */
  | { kind: 'steps'; kept: number; unit: StepUnit }
  | { kind: 'opaque' }

/** Elements that a piece of a decoded tensor has at most. */
export const PIECE_WEIGHTS = 2 ** 20
