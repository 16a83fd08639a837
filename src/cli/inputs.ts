/**
 * What `compress` and `sweep` read, and the rules they are told.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import { type Command, Option, type OptionValues } from '@commander-js/extra-typings'
import { adapterTaskVector } from '../compress/adapter.ts'
import { type Checkpoint, openCheckpoint } from '../compress/checkpoint.ts'
import { DEFAULT_DENSITY, DEFAULT_TERMS } from '../compress/defaults.ts'
import { fullTaskVector } from '../compress/full.ts'
import type { Override, RuleOptions, Scale, Score, Threshold } from '../compress/rules.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import type { ByteSource } from '../source/source.ts'
import { several, UsageError } from './command.ts'
import { openFolder, openPath } from './file_source.ts'
import { alpha, byteSize, density, parsed, wholeNumber } from './numbers.ts'
import { defaultThreads, openWorkerPool, type WorkerPool } from './worker_pool.ts'

const SCORES = ['balanced', 'magnitude'] as const satisfies readonly Score[]
const SCALES = ['unbiased', 'std', 'mean'] as const satisfies readonly Scale[]
const THRESHOLDS = ['tensor', 'global'] as const satisfies readonly Threshold[]

/** What the inputs are given as. */
export interface InputValues {
  base?: string
  finetuned?: string
  adapter?: string
  baseName?: string
}

/** Adds the flags of the inputs. */
export function withInputs<A extends unknown[], O extends OptionValues>(command: Command<A, O>) {
  return command
    .optionsGroup('What it is made from:')
    .option('--adapter <folder>', 'a LoRA or (IA)³ adapter, as peft saves it')
    .option('--finetuned <path>', 'a fine-tuned checkpoint: safetensors, a folder of them, or of ONNX graphs')
    .option('--base <path>', 'the checkpoint that it was fine-tuned from; needed for --finetuned')
    .option('--base-name <name>', 'what the base is called, for people')
}

/** Adds the number of threads. */
export function threadsOption() {
  return new Option('--threads <n>', 'worker threads (default: all cores); the result is the same').argParser(
    threadCount,
  )
}

/** Adds the flags that say which entries of ternary tensors stay, and what they are worth. */
export function withSelection<A extends unknown[], O extends OptionValues>(command: Command<A, O>) {
  const { full, lora, ia3 } = DEFAULT_DENSITY
  return withTerms(command)
    .optionsGroup('What is kept of ternary tensors:')
    .option(
      '--density <k>',
      `share of the entries that is kept, such as 0.05 or 5% (default: ${percent(full)}; of LoRA ${percent(lora)}, of (IA)³ ${percent(ia3)})`,
      parsed(density, '--density'),
    )
    .option('--alpha <a>', 'multiplies what an entry is worth (default: 1)', parsed(alpha, '--alpha'))
    .addOption(
      new Option('--score <s>', 'what ranks entries (default: balanced, relative to row and column)').choices(
        SCORES,
      ),
    )
    .addOption(
      new Option('--threshold <t>', 'the best of each tensor, or of all (default: tensor)').choices(
        THRESHOLDS,
      ),
    )
    .addOption(new Option('--scale <s>', 'what an entry is worth (default: unbiased)').choices(SCALES))
    .addOption(
      new Option(
        '--rule <r>',
        'the choices of the ComPEFT paper: magnitude, global, std; single flags override it',
      ).choices(['published'] as const),
    )
    .addOption(
      new Option('--dense-dtype <d>', 'how dense tensors are stored (default: f16)').choices([
        'f16',
        'f32',
      ] as const),
    )
}

/** Adds the flags that say how many terms there are. */
function withTerms<A extends unknown[], O extends OptionValues>(command: Command<A, O>) {
  return command
    .option(
      '--terms <n>',
      `ternary rank-1 terms for each target (default: ${DEFAULT_TERMS.lora}, more of a rank over 8 on few modules; of a full fine-tuning ${DEFAULT_TERMS.full})`,
      parsed((text, flag) => wholeNumber(text, flag, 1), '--terms'),
    )
    .option(
      '--bytes <size>',
      'of the whole file instead, such as 70kB: terms go where they have the most energy for each byte',
      parsed(byteSize, '--bytes'),
    )
}

/** Adds the flags that name tensors, and those of codecs. */
export function withRules<A extends unknown[], O extends OptionValues>(command: Command<A, O>) {
  return withSelection(
    command
      .optionsGroup('How a LoRA is kept, and with --codec terms a full fine-tuning:')
      .addOption(
        new Option('--codec <c>', 'terms (default for LoRA), or ternary: its factors themselves').choices([
          'terms',
          'ternary',
        ] as const),
      ),
  )
    .optionsGroup('Of which tensors:')
    .option('--include <glob>', 'only these; may be repeated, and * matches anything', several)
    .option('--exclude <glob>', 'not these; may be repeated', several)
    .option('--dense <glob>', 'keep these uncompressed; may be repeated', several)
    .option(
      '--override <glob:key=value,…>',
      'other density, alpha, score or scale for some; may be repeated',
      several,
    )
}

function percent(share: number): string {
  return `${100 * share}%`
}

/** The task vector that the flags name; `base` if it was opened already. */
export async function openTaskVector(values: InputValues, base?: Checkpoint): Promise<TaskVector> {
  const task =
    values.adapter !== undefined
      ? await adapterTaskVector(openFolder(values.adapter), base)
      : await fullTaskVector(base!, await openCheckpointAt(values.finetuned!))
  return { ...task, baseName: values.baseName ?? task.baseName }
}

/** @throws {UsageError} unless exactly one of `names` is given, with its base where it needs one */
export function checkInputs(
  values: InputValues & { ternary?: string; termsFrom?: string },
  names: readonly ('finetuned' | 'adapter' | 'ternary' | 'termsFrom')[],
): void {
  const given = names.filter((name) => values[name] !== undefined)
  if (given.length !== 1) {
    const flags = names.map((name) => (name === 'termsFrom' ? '--terms-from' : `--${name}`))
    throw new UsageError(
      `Cannot compress: expected one of ${flags.slice(0, -1).join(', ')} and ${flags.at(-1)}, found ${given.length}`,
    )
  }
  if (values.finetuned !== undefined && values.base === undefined) {
    throw new UsageError('Cannot compress: expected --base <file|dir> beside --finetuned')
  }
}

/** @throws {UsageError} for a number of threads that makes no sense */
function threadCount(text: string): number {
  const threads = Number(text)
  if (Number.isInteger(threads) && threads >= 1 && threads <= 256) return threads
  throw new UsageError(`Cannot use --threads ${text}: expected a whole number from 1 to 256`)
}

/** Worker threads, or none where one thread is asked for. */
export function openPool(threads = defaultThreads()): WorkerPool | undefined {
  return threads === 1 ? undefined : openWorkerPool(threads)
}

/** Safetensors, or the float graphs of an ONNX model folder without any. */
export async function openCheckpointAt(path: string): Promise<Checkpoint> {
  const from = await openPath(path)
  if ('list' in from && isOnnxFolder(await from.list())) {
    return (await import('./onnx_checkpoint.ts')).openOnnxCheckpoint(path)
  }
  return openCheckpoint(from)
}

function isOnnxFolder(files: readonly string[]): boolean {
  return (
    files.some((file) => file === 'onnx' || file.endsWith('.onnx')) &&
    !files.some((file) => file.includes('.safetensors'))
  )
}

const PIECE = 1 << 20

/** SHA-256 of a file of any size. */
export async function sha256OfFile(source: ByteSource): Promise<string | undefined> {
  const hash = createHash('sha256')
  const size = (await source.size())!
  for (let at = 0; at < size; at += PIECE) hash.update(await source.read(at, Math.min(PIECE, size - at)))
  return hash.digest('hex')
}

/** What the flags of {@link withRules} or {@link withSelection} say. */
export type RuleValues = Omit<RuleOptions, 'overrides'> & { override?: string[] }

/** @throws {UsageError} naming the flag, what it takes and what it got */
export function ruleOptions({ override: overrides, ...rules }: RuleValues): RuleOptions {
  const { lossless, codec, terms, bytes, rule, density, alpha, score, threshold, scale } = rules
  const { include, exclude, dense, denseDtype } = rules
  const named = { include, exclude, dense, denseDtype, overrides: overrides?.map(override) }
  return { lossless, codec, terms, bytes, rule, density, alpha, score, threshold, scale, ...named }
}

function override(text: string): Override {
  const split = text.lastIndexOf(':')
  const result: Override = { glob: text.slice(0, split) }
  if (split <= 0) throw new UsageError(`Cannot use --override ${text}: expected <glob>:density=0.1,alpha=3`)
  for (const pair of text.slice(split + 1).split(',')) {
    const [key, value = ''] = pair.split('=')
    const flag = `${key} of --override ${text},`
    if (key === 'density') result.density = density(value, flag)
    else if (key === 'alpha') result.alpha = alpha(value, flag)
    else if (key === 'score') result.score = choice(value, flag, SCORES)
    else if (key === 'scale') result.scale = choice(value, flag, SCALES)
    else
      throw new UsageError(
        `Cannot use --override ${text}: expected density, alpha, score or scale, found ${pair}`,
      )
  }
  return result
}

/** @throws {UsageError} for none of the choices */
function choice<T extends string>(text: string, flag: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text)
  if (found !== undefined) return found
  throw new UsageError(`Cannot use ${flag} ${text}: expected ${choices.join(' or ')}`)
}
