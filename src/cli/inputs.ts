/**
 * What `compress` and `sweep` read, and the rules they are told.
 *
 * @module
 */
import { createHash } from 'node:crypto'
import type { parseArgs } from 'node:util'
import { adapterTaskVector } from '../compress/adapter.ts'
import { type Checkpoint, type FileFolder, openCheckpoint } from '../compress/checkpoint.ts'
import type { ExpertCodec } from '../compress/defaults.ts'
import { fullTaskVector } from '../compress/full.ts'
import type { Override, RuleOptions, Scale, Score, Threshold } from '../compress/rules.ts'
import type { TaskVector } from '../compress/task_vector.ts'
import { TritswapError } from '../errors.ts'
import type { ByteSource } from '../source/source.ts'
import { UsageError } from './command.ts'
import { openPath } from './file_source.ts'
import { defaultThreads, openWorkerPool, type WorkerPool } from './worker_pool.ts'

/** Flags of the inputs. */
export const inputOptions = {
  base: { type: 'string' },
  finetuned: { type: 'string' },
  adapter: { type: 'string' },
  'base-name': { type: 'string' },
  threads: { type: 'string' },
} as const

/** Flags of the rules. */
export const ruleFlags = {
  codec: { type: 'string' },
  terms: { type: 'string' },
  bytes: { type: 'string' },
  density: { type: 'string' },
  alpha: { type: 'string' },
  score: { type: 'string' },
  threshold: { type: 'string' },
  scale: { type: 'string' },
  rule: { type: 'string' },
  include: { type: 'string', multiple: true },
  exclude: { type: 'string', multiple: true },
  dense: { type: 'string', multiple: true },
  'dense-dtype': { type: 'string' },
  override: { type: 'string', multiple: true },
} as const

type InputValues = ReturnType<typeof parseArgs<{ options: typeof inputOptions }>>['values']
type RuleValues = ReturnType<typeof parseArgs<{ options: typeof ruleFlags }>>['values']

/** The task vector that the flags name; `base` if it was opened already. */
export async function openTaskVector(values: InputValues, base?: Checkpoint): Promise<TaskVector> {
  const task =
    values.adapter !== undefined
      ? await adapterTaskVector(await openAdapter(values.adapter), base)
      : await fullTaskVector(base!, await openCheckpointAt(values.finetuned!))
  return { ...task, baseName: values['base-name'] ?? task.baseName }
}

/** @throws {TritswapError} `input` for a file: an adapter's weights mean nothing without its configuration */
async function openAdapter(path: string): Promise<FileFolder> {
  const from = await openPath(path)
  if ('list' in from) return from
  await from.close()
  throw new TritswapError(
    'input',
    `Cannot open ${path} as an adapter: it is a file; give the folder that holds adapter_config.json and adapter_model.safetensors`,
    { fields: { path } },
  )
}

/** @throws {UsageError} unless exactly one of `names` is given, with its base where it needs one */
export function checkInputs(values: InputValues & Record<string, unknown>, names: readonly string[]): void {
  const given = names.filter((name) => values[name] !== undefined)
  if (given.length !== 1) {
    const flags = names.map((name) => `--${name}`)
    throw new UsageError(
      `Cannot compress: expected one of ${flags.slice(0, -1).join(', ')} and ${flags.at(-1)}, found ${given.length}`,
    )
  }
  if (values.finetuned !== undefined && values.base === undefined) {
    throw new UsageError('Cannot compress: expected --base <file|dir> beside --finetuned')
  }
}

/** @throws {UsageError} for a number of threads that makes no sense */
export function threadCount(text: string | undefined): number {
  const threads = number(text, '--threads') ?? defaultThreads()
  if (!Number.isInteger(threads) || threads < 1 || threads > 256) {
    throw new UsageError(`Cannot use --threads ${text}: expected a whole number from 1 to 256`)
  }
  return threads
}

/** Worker threads, or none where one thread is asked for. */
export function openPool(threads: number): WorkerPool | undefined {
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

/** @throws {UsageError} naming the flag, what it takes and what it got */
export function ruleOptions(values: RuleValues): RuleOptions {
  return {
    codec: choice<ExpertCodec>(values.codec, 'codec', ['ternary', 'terms']),
    terms: number(values.terms, '--terms'),
    bytes: bytesOf(values.bytes, '--bytes'),
    rule: choice(values.rule, 'rule', ['published']),
    density: density(values.density, '--density'),
    alpha: alpha(values.alpha, '--alpha'),
    score: choice<Score>(values.score, 'score', ['magnitude', 'balanced']),
    threshold: choice<Threshold>(values.threshold, 'threshold', ['global', 'tensor']),
    scale: choice<Scale>(values.scale, 'scale', ['std', 'mean', 'unbiased']),
    include: values.include,
    exclude: values.exclude,
    dense: values.dense,
    denseDtype: choice(values['dense-dtype'], 'dense-dtype', ['f16', 'f32']),
    overrides: values.override?.map(override),
  }
}

function override(text: string): Override {
  const split = text.lastIndexOf(':')
  const result: Override = { glob: text.slice(0, split) }
  if (split <= 0) throw new UsageError(`Cannot use --override ${text}: expected <glob>:density=0.1,alpha=3`)
  for (const pair of text.slice(split + 1).split(',')) {
    const [key, value] = pair.split('=')
    if (key === 'density') result.density = density(value, `density of --override ${text}`)
    else if (key === 'alpha') result.alpha = alpha(value, `alpha of --override ${text}`)
    else if (key === 'score') result.score = choice<Score>(value, 'override score', ['magnitude', 'balanced'])
    else if (key === 'scale')
      result.scale = choice<Scale>(value, 'override scale', ['std', 'mean', 'unbiased'])
    else
      throw new UsageError(
        `Cannot use --override ${text}: expected density, alpha, score or scale, found ${pair}`,
      )
  }
  return result
}

export function density(text: string | undefined, flag: string): number | undefined {
  const value = number(text, flag)
  if (value !== undefined && !(value > 0 && value <= 1)) {
    throw new UsageError(`Cannot use ${flag} ${text}: expected a fraction over 0 and up to 1 (5 % is 0.05)`)
  }
  return value
}

export function alpha(text: string | undefined, flag: string): number | undefined {
  const value = number(text, flag)
  if (value !== undefined && value <= 0)
    throw new UsageError(`Cannot use ${flag} ${text}: expected a number over 0`)
  return value
}

export function number(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (!Number.isFinite(value)) throw new UsageError(`Cannot use ${flag} ${text}: expected a number`)
  return value
}

/** A size as people write it: 70000, 70kB, 1.5MB. */
function bytesOf(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  const [, count, unit] = /^(\d+(?:\.\d+)?) *(k?B?|MB?)$/i.exec(text.trim()) ?? []
  const factor = { '': 1, b: 1, k: 1e3, kb: 1e3, m: 1e6, mb: 1e6 }[unit?.toLowerCase() ?? '-']
  if (factor === undefined) throw new UsageError(`Cannot use ${flag} ${text}: expected a size such as 70kB`)
  return Number(count) * factor
}

/** @throws {UsageError} for none of the choices */
export function choice<T extends string>(
  text: string | undefined,
  flag: string,
  choices: readonly T[],
): T | undefined {
  if (text === undefined || choices.includes(text as T)) return text as T | undefined
  throw new UsageError(`Cannot use --${flag} ${text}: expected ${choices.join(' or ')}`)
}
