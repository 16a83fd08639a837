/**
 * Making expert files: the same code in Node and in a browser worker.
 *
 * ```ts
 * import { blobSource, compressCheckpoint } from 'tritswap/compress'
 *
 * const { file } = await compressCheckpoint({
 *   base: blobSource(baseFile),
 *   finetuned: blobSource(finetunedFile),
 *   options: { density: 0.05 },
 *   onProgress: ({ done, total }) => console.log(`${done} of ${total}`),
 * })
 * ```
 *
 * @module
 */
import { memorySpool, type PayloadSpool } from '../format/writer.ts'
import type { ByteSource } from '../source/source.ts'
import { adapterTaskVector } from './adapter.ts'
import { type FileFolder, openCheckpoint } from './checkpoint.ts'
import { compressTaskVector } from './compress.ts'
import { fullTaskVector } from './full.ts'
import type { CompressContext, CompressReport, ExpertTexts } from './report.ts'
import type { RuleOptions } from './rules.ts'
import type { TaskVector } from './task_vector.ts'
import { packTerms } from './terms_input.ts'
import { packTernary } from './ternary_input.ts'

export { blobSource, memorySource } from '../source/memory.ts'
export { adapterTaskVector } from './adapter.ts'
export { type Checkpoint, type FileFolder, openCheckpoint } from './checkpoint.ts'
export { compressTaskVector } from './compress.ts'
export { decodePieces, decodeSparse, decodeTensor, type SparseTensor } from './decode.ts'
export { fullTaskVector } from './full.ts'
export { type Inspection, inspectHead, type TensorInspection } from './inspect.ts'
export type { CompressContext, CompressReport, ExpertTexts, TensorReport } from './report.ts'
export type { Override, RuleOptions, Scale, Score, Threshold } from './rules.ts'
export { readSafetensors, type StoredTensor, safetensorsHead } from './safetensors.ts'
export { type SweepPoint, sweep } from './sweep.ts'
export type { TaskTensor, TaskVector } from './task_vector.ts'
export { type TermVectors, termVectors } from './term_vectors.ts'
export { ternaryEntropy } from './ternary_entropy.ts'
export { packTernary } from './ternary_input.ts'
export { type BaseCheck, verifyBase, verifyFile } from './verify.ts'

/** What all ways to make an expert share. */
interface MakeOptions extends Omit<CompressContext, 'spool'> {
  options?: RuleOptions & ExpertTexts & { baseName?: string }
  /** Where the payload goes instead of memory; `file` is then only the head of the file. */
  spool?: PayloadSpool
}

export interface MadeExpert extends CompressReport {
  /** The whole file, or its head where a spool was given. */
  file: Uint8Array<ArrayBuffer>
}

/**
 * An expert from a fine-tuned checkpoint and its base: safetensors files, or folders with one or with shards.
 * @throws {TritswapError} `input`, `format` or `unsupported`, naming the file or tensor and what to do
 */
export function compressCheckpoint({
  base,
  finetuned,
  ...rest
}: MakeOptions & { base: ByteSource | FileFolder; finetuned: ByteSource | FileFolder }): Promise<MadeExpert> {
  return make(rest, async (context, options) => {
    const task = await fullTaskVector(await openCheckpoint(base), await openCheckpoint(finetuned))
    return compressTaskVector(named(task, options.baseName), options, context)
  })
}

/**
 * An expert from an adapter folder as `peft` writes it (LoRA, (IA)³).
 * @param base - needed where the adapter also holds whole modules or biases
 */
export function compressAdapter({
  adapter,
  base,
  ...rest
}: MakeOptions & { adapter: FileFolder; base?: ByteSource | FileFolder }): Promise<MadeExpert> {
  return make(rest, async (context, options) => {
    const task = await adapterTaskVector(adapter, base && (await openCheckpoint(base)))
    return compressTaskVector(named(task, options.baseName), options, context)
  })
}

/** An expert from ternary deltas that an author's own method chose (`packTernary`). */
export function compressTernary({
  ternary,
  base,
  ...rest
}: MakeOptions & { ternary: ByteSource | FileFolder; base?: ByteSource | FileFolder }): Promise<MadeExpert> {
  return make(rest, async (context, options) =>
    packTernary(await openCheckpoint(ternary), base && (await openCheckpoint(base)), options, context),
  )
}

/** An expert from ternary rank-1 terms that an author's own method made (`packTerms`). */
export function compressTerms({
  terms,
  base,
  ...rest
}: MakeOptions & { terms: ByteSource | FileFolder; base?: ByteSource | FileFolder }): Promise<MadeExpert> {
  return make(rest, async (context, options) =>
    packTerms(await openCheckpoint(terms), base && (await openCheckpoint(base)), options, context),
  )
}

async function make(
  { options = {}, spool, ...context }: MakeOptions,
  produce: (
    context: CompressContext,
    options: NonNullable<MakeOptions['options']>,
  ) => Promise<CompressReport>,
): Promise<MadeExpert> {
  const memory = memorySpool()
  const report = await produce({ ...context, spool: spool ?? memory }, options)
  return { ...report, file: spool === undefined ? memory.join(report.head) : report.head }
}

function named(task: TaskVector, baseName: string | undefined): TaskVector {
  return { ...task, baseName: baseName ?? task.baseName }
}
