import { parseArgs } from 'node:util'
import { mainRule, type RuleOptions } from '../compress/rules.ts'
import {
  FINE_ALPHAS,
  PUBLISHED_ALPHAS,
  PUBLISHED_DENSITIES,
  type SweepPoint,
  sweep,
} from '../compress/sweep.ts'
import { UsageError } from './command.ts'
import { formatBytes, formatNumber, formatTable } from './format_text.ts'
import {
  alpha,
  checkInputs,
  choice,
  density,
  inputOptions,
  number,
  openCheckpointAt,
  openPool,
  openTaskVector,
  ruleFlags,
  ruleOptions,
  sha256OfFile,
  threadCount,
} from './inputs.ts'
import type { MeasuredSweep, SweepGrid, SweepRequest } from './measured_sweep.ts'
import { print, printJson, printText } from './print.ts'
import { progressBar } from './progress.ts'
import type { Choice, Measure, PointFigures } from './sweep_measure.ts'

export const help = `
tritswap sweep --base <file|dir> --finetuned <file|dir> [--json]
tritswap sweep --adapter <peft dir> [--base <file|dir>] [--json]

Tries densities and alphas and shows for each the size of the file, the relative error ‖S − tau‖ / ‖tau‖ and the
cosine of what it decodes to with the task vector. With --eval also what it does on held-out text: bits per byte,
the share of the fine-tuning's gain that is kept, agreement and KL with the uncompressed fine-tuning; the best alpha
of each density is the one with the smallest KL. With --chats the same on answers: exact match and what tritswap eval
--chats reports. Without a text or chats no point is called the best.

  --densities <k,k,…>   default ${PUBLISHED_DENSITIES.join(',')}
  --alphas <a,a,…>      default ${PUBLISHED_ALPHAS.join(',')}, and ${FINE_ALPHAS.join(',')} unless --scale is std
  --chats <valid.jsonl> chats with wanted answers to choose on, as of tritswap eval --chats
  --test <test.jsonl>   others, on which the best of each density is reported
  --by <kl|exact>       what the best has: with --chats, the smallest KL (default) or the most exact answers
  --system <text>       what the skill says first; --limit <n> only the first n chats of each file
  --eval <text>         a text of the expert's domain; the windows used are not those that eval reports on
  --eval-base <dir>     written by tritswap prepare, or with ONNX graphs (default: public/models/demo)
  --windows <n>         windows of 256 tokens (default 8), --from <n> the first one (default 24)
  --json                all points and the best as JSON

and the flags of compress that choose entries and scales: --rule, --score, --threshold, --scale, --include,
--exclude, --dense, --override.

Example
  tritswap sweep --base base --finetuned bard --rule published --threshold tensor --eval bard.txt
  tritswap sweep --adapter sql --eval-base smollm2 --densities 0.1,0.2 --alphas 1,2 --chats valid.jsonl --test test.jsonl
`

const options = {
  ...inputOptions,
  ...ruleFlags,
  densities: { type: 'string' },
  alphas: { type: 'string' },
  eval: { type: 'string' },
  chats: { type: 'string' },
  test: { type: 'string' },
  by: { type: 'string', default: 'kl' },
  system: { type: 'string' },
  limit: { type: 'string' },
  'eval-base': { type: 'string', default: 'public/models/demo' },
  windows: { type: 'string', default: '8' },
  from: { type: 'string', default: '24' },
  json: { type: 'boolean' },
} as const

type Point = Omit<SweepPoint, 'head'> & { eval?: PointFigures }

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  checkInputs(values, ['finetuned', 'adapter'])
  if (values.density !== undefined || values.alpha !== undefined) {
    throw new UsageError('Cannot sweep at one --density or --alpha: expected --densities and --alphas')
  }
  if (values.test !== undefined && values.chats === undefined) {
    throw new UsageError('Cannot report on --test: expected --chats <file> to choose on')
  }
  const rules = ruleOptions(values)
  const threads = threadCount(values.threads)
  if (rules.overrides?.some((override) => override.density !== undefined || override.alpha !== undefined)) {
    throw new UsageError('Cannot sweep with an --override of density or alpha: they are what is swept')
  }
  const densities = list(values.densities, '--densities', density) ?? PUBLISHED_DENSITIES
  const alphas = list(values.alphas, '--alphas', alpha) ?? defaultAlphas(rules)
  const windows = {
    from: number(values.from, '--from') ?? 0,
    count: number(values.windows, '--windows') ?? 0,
  }
  const by = choice<Choice>(values.by, 'by', ['kl', 'exact']) ?? 'kl'
  const chats = { system: values.system, limit: number(values.limit, '--limit') }

  const base = values.base === undefined ? undefined : await openCheckpointAt(values.base)
  const task = await openTaskVector(values, base)
  const pool = openPool(threads)
  try {
    const request = { task, rules, run: pool?.run, sha256: sha256OfFile }
    const grid = { densities, alphas }
    if (values.eval === undefined && values.chats === undefined) {
      show(await plainSweep(request, grid), values.json)
      return 0
    }
    // Loaded only here: it brings onnxruntime along.
    const { withEvaluation } = await import('./evaluation.ts')
    const { measuredSweep } = await import('./measured_sweep.ts')
    const { chatMeasure, textMeasure } = await import('./sweep_measure.ts')
    await withEvaluation(values['eval-base'], threads, async (evaluation) => {
      const { tokenizer } = evaluation
      const main =
        values.chats === undefined
          ? await textMeasure(values.eval!, tokenizer, windows)
          : await chatMeasure(values.chats, tokenizer, chats)
      const test = values.test === undefined ? undefined : await chatMeasure(values.test, tokenizer, chats)
      show(await measuredSweep(evaluation, request, grid, { main, test, by }), values.json, { main, alphas })
    })
    return 0
  } finally {
    pool?.close()
  }
}

async function plainSweep(
  { task, rules, run, sha256 }: SweepRequest,
  { densities, alphas }: SweepGrid,
): Promise<{ points: Point[] }> {
  const bar = progressBar('sweeping')
  const points: Point[] = []
  const context = {
    run,
    sha256,
    // Only the heads are used.
    spoolFor: () => ({ async append() {} }),
    onProgress: ({ done, total }: { done: number; total: number }) =>
      bar.update(Math.floor(points.length / alphas.length) + done / total, densities.length),
  }
  try {
    for await (const row of sweep(task, rules, { densities, alphas }, context))
      points.push(...row.map(({ head: _, ...point }) => point))
    return { points }
  } finally {
    bar.stop()
  }
}

/** Prints a sweep. @param measured - what its points were measured on */
function show(
  sweep: { points: readonly Point[] } & Partial<Omit<MeasuredSweep, 'points'>>,
  json: boolean | undefined,
  measured?: { main: Measure; alphas: readonly number[] },
): void {
  const { points, bestByDensity = [], best, ends, test } = sweep
  if (json) {
    const result = { points, bestByDensity: measured && bestByDensity, best, ...ends, test }
    printJson(result)
    return
  }
  printText(textOf(points, bestByDensity, measured?.main))
  if (measured === undefined) return
  print(...bestByDensity.flatMap((point) => edgeNote(point, measured.alphas)))
  if (test !== undefined) {
    const rows = bestByDensity.map((point, i) => ({ ...point, eval: test.bestByDensity[i] }))
    printText(`\nOn the test\n${tableOf(rows, [], measured.main)}`)
  }
}

function defaultAlphas(rules: RuleOptions): number[] {
  const more = mainRule(rules, 'full').scale === 'std' ? [] : FINE_ALPHAS
  return [...PUBLISHED_ALPHAS, ...more].sort((a, b) => a - b)
}

function list(
  text: string | undefined,
  flag: string,
  parse: (text: string, flag: string) => number | undefined,
): number[] | undefined {
  return text?.split(',').map((item) => parse(item, flag)!)
}

/** Says that the best alpha may lie beyond those that were tried. */
function edgeNote({ density, alpha }: Point, alphas: readonly number[]): string[] {
  const [least, most] = [Math.min(...alphas), Math.max(...alphas)]
  if (alpha !== least && alpha !== most) return []
  const edge = alpha === most ? 'largest' : 'smallest'
  return [
    `At ${formatNumber(100 * density)}% the best alpha is ${alpha}, the ${edge} that was tried: try ${alpha === most ? 'larger' : 'smaller'} ones`,
  ]
}

function textOf(points: readonly Point[], best: readonly Point[], measure?: Measure): string {
  const legend = measure
    ? '* best alpha of its density'
    : 'Which is best only a text or chats tell: --eval <text> or --chats <valid.jsonl>'
  return `${tableOf(points, best, measure)}\n\n${legend}`
}

function tableOf(points: readonly Point[], best: readonly Point[], measure?: Measure): string {
  const head = ['density', 'alpha', 'size', '× f16', 'error', 'cosine', ...(measure?.columns ?? []), '']
  const rows = points.map((point) => [
    `${formatNumber(100 * point.density)}%`,
    point.alpha,
    formatBytes(point.bytes),
    formatNumber(point.ratioToF16, 3),
    point.error.toFixed(4),
    point.cosine.toFixed(4),
    ...(measure === undefined || point.eval === undefined ? [] : measure.cells(point.eval)),
    best.includes(point) ? '*' : '',
  ])
  return formatTable(head, rows)
}
