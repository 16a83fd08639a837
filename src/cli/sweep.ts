import { Option } from '@commander-js/extra-typings'
import { mainRule, type RuleOptions } from '../compress/rules.ts'
import {
  FINE_ALPHAS,
  PUBLISHED_ALPHAS,
  PUBLISHED_DENSITIES,
  type SweepPoint,
  sweep,
} from '../compress/sweep.ts'
import { jsonOption, newCommand, UsageError } from './command.ts'
import { EVAL_BASE, SWEEP_WINDOWS } from './defaults.ts'
import { formatBytes, formatNumber, formatTable } from './format_text.ts'
import {
  checkInputs,
  type InputValues,
  openCheckpointAt,
  openPool,
  openTaskVector,
  type RuleValues,
  ruleOptions,
  sha256OfFile,
  threadsOption,
  withInputs,
  withRules,
} from './inputs.ts'
import type { MeasuredSweep, SweepGrid, SweepRequest } from './measured_sweep.ts'
import { alpha, density, listOf, parsed, wholeNumber } from './numbers.ts'
import { print, printJson, printText } from './print.ts'
import { progressBar } from './progress.ts'
import type { Choice, Measure, PointFigures } from './sweep_measure.ts'
import { defaultThreads } from './worker_pool.ts'

const DESCRIPTION = `
Tries densities and alphas and shows for each the size of the file, the relative error ‖S − tau‖ / ‖tau‖ and the cosine
of what it decodes to with the task vector. With --eval also what it does on held-out text: bits per byte, the share of
the fine-tuning's gain that is kept, agreement and KL with the uncompressed fine-tuning; the best alpha of each density is
the one with the smallest KL. With --chats the same on answers: exact match and what tritswap eval --chats reports.
Without a text or chats no point is called the best.
`

const EXAMPLES = [
  'tritswap sweep --base base --finetuned poet --densities 5%,10%',
  'tritswap sweep --base base --finetuned poet --densities 10% --alphas 0.9,1 --eval text.txt --eval-base models/mine --windows 1 --from 0',
  'tritswap sweep --adapter my-lora --eval-base models/mine --densities 20% --alphas 1 --chats chats.jsonl --test chats.jsonl',
]

export function command() {
  const inputs = withInputs(newCommand('sweep', DESCRIPTION, EXAMPLES))
    .optionsGroup('What is tried:')
    .option(
      '--densities <k,k,…>',
      `(default: ${PUBLISHED_DENSITIES.join(',')})`,
      listOf(density, '--densities'),
    )
    .option(
      '--alphas <a,a,…>',
      `(default: ${PUBLISHED_ALPHAS.join(',')}, and ${FINE_ALPHAS.join(',')} unless --scale is std)`,
      listOf(alpha, '--alphas'),
    )
    .optionsGroup('What it is measured on:')
    .option('--eval <text>', "of the expert's domain; the windows used are not those that eval reports on")
    .option('--chats <valid.jsonl>', 'with wanted answers, as of tritswap eval --chats, to choose on')
    .option('--test <test.jsonl>', 'others, on which the best of each density is reported')
    .addOption(
      new Option('--by <what>', 'what the best has: the smallest KL, or with --chats the most exact answers')
        .choices(['kl', 'exact'] as const)
        .default('kl' as const),
    )
    .option('--system <text>', 'what the skill says first')
    .option('--limit <n>', 'only the first so many chats of each file', atLeast(1, '--limit'))
    .option('--eval-base <folder>', 'written by tritswap prepare, or with ONNX graphs', EVAL_BASE)
    .option('--windows <n>', 'windows of 256 tokens', atLeast(1, '--windows'), SWEEP_WINDOWS.count)
    .option('--from <n>', 'the first one', atLeast(0, '--from'), SWEEP_WINDOWS.from)
  return withRules(inputs)
    .optionsGroup('Options:')
    .addOption(threadsOption())
    .addOption(jsonOption('all points and the best'))
    .action(runSweep)
}

function atLeast(least: number, flag: string) {
  return parsed((text) => wholeNumber(text, flag, least), flag)
}

interface Values extends InputValues, RuleValues {
  densities?: number[]
  alphas?: number[]
  eval?: string
  chats?: string
  test?: string
  by: Choice
  system?: string
  limit?: number
  evalBase: string
  windows: number
  from: number
  threads?: number
  json?: true
}

type Point = Omit<SweepPoint, 'head'> & { eval?: PointFigures }

async function runSweep(values: Values): Promise<void> {
  checkInputs(values, ['finetuned', 'adapter'])
  if (values.density !== undefined || values.alpha !== undefined) {
    throw new UsageError('Cannot sweep at one --density or --alpha: expected --densities and --alphas')
  }
  if (values.test !== undefined && values.chats === undefined) {
    throw new UsageError('Cannot report on --test: expected --chats <file> to choose on')
  }
  const rules = ruleOptions(values)
  if (rules.overrides?.some((override) => override.density !== undefined || override.alpha !== undefined)) {
    throw new UsageError('Cannot sweep with an --override of density or alpha: they are what is swept')
  }
  const { system, limit, by, json, threads = defaultThreads() } = values
  const grid = {
    densities: values.densities ?? PUBLISHED_DENSITIES,
    alphas: values.alphas ?? defaultAlphas(rules),
  }

  const base = values.base === undefined ? undefined : await openCheckpointAt(values.base)
  const task = await openTaskVector(values, base)
  const pool = openPool(threads)
  try {
    const request = { task, rules, run: pool?.run, sha256: sha256OfFile }
    if (values.eval === undefined && values.chats === undefined) {
      show(await plainSweep(request, grid), json)
      return
    }
    // Loaded only here: it brings onnxruntime along.
    const { withEvaluation } = await import('./evaluation.ts')
    const { measuredSweep } = await import('./measured_sweep.ts')
    const { chatMeasure, textMeasure } = await import('./sweep_measure.ts')
    await withEvaluation(values.evalBase, threads, async (evaluation) => {
      const { tokenizer } = evaluation
      const windows = { from: values.from, count: values.windows }
      const main =
        values.chats === undefined
          ? await textMeasure(values.eval!, tokenizer, windows)
          : await chatMeasure(values.chats, tokenizer, { system, limit })
      const test =
        values.test === undefined ? undefined : await chatMeasure(values.test, tokenizer, { system, limit })
      show(await measuredSweep(evaluation, request, grid, { main, test, by }), json, {
        main,
        alphas: grid.alphas,
      })
    })
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
  json: true | undefined,
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
