import { parseArgs } from 'node:util'
import { mainRule, type RuleOptions } from '../compress/rules.ts'
import {
  FINE_ALPHAS,
  PUBLISHED_ALPHAS,
  PUBLISHED_DENSITIES,
  type SweepPoint,
  sweep,
} from '../compress/sweep.ts'
import { memorySpool } from '../format/writer.ts'
import { UsageError } from './command.ts'
import { formatBytes, formatNumber, formatTable } from './format_text.ts'
import {
  alpha,
  checkInputs,
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
import { print, printJson, printText } from './print.ts'
import { progressBar } from './progress.ts'
import type { PointScore, SweepEvaluation } from './sweep_evaluation.ts'

export const help = `
tritswap sweep --base <file|dir> --finetuned <file|dir> [--json]
tritswap sweep --adapter <peft dir> [--base <file|dir>] [--json]

Tries densities and alphas and shows for each the size of the file, the relative error ‖S − tau‖ / ‖tau‖ and the
cosine of what it decodes to with the task vector. With --eval also what it does on held-out text: bits per byte,
the share of the fine-tuning's gain that is kept, agreement and KL with the uncompressed fine-tuning; the best alpha
of each density is the one with the smallest KL. Without a text no point is called the best.

  --densities <k,k,…>   default ${PUBLISHED_DENSITIES.join(',')}
  --alphas <a,a,…>      default ${PUBLISHED_ALPHAS.join(',')}, and ${FINE_ALPHAS.join(',')} unless --scale is std
  --eval <text>         a text of the expert's domain; the windows used are not those that eval reports on
  --eval-base <dir>     written by tritswap prepare (default: public/models/demo)
  --windows <n>         windows of 256 tokens (default 8), --from <n> the first one (default 24)
  --json                all points and the best as JSON

and the flags of compress that choose entries and scales: --rule, --score, --threshold, --scale, --include,
--exclude, --dense, --override.

Example
  tritswap sweep --base base --finetuned bard --rule published --threshold tensor --eval bard.txt
`

const options = {
  ...inputOptions,
  ...ruleFlags,
  densities: { type: 'string' },
  alphas: { type: 'string' },
  eval: { type: 'string' },
  'eval-base': { type: 'string', default: 'public/models/demo' },
  windows: { type: 'string', default: '8' },
  from: { type: 'string', default: '24' },
  json: { type: 'boolean' },
} as const

type Point = Omit<SweepPoint, 'head'> & { eval?: PointScore }

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  checkInputs(values, ['finetuned', 'adapter'])
  if (values.density !== undefined || values.alpha !== undefined) {
    throw new UsageError('Cannot sweep at one --density or --alpha: expected --densities and --alphas')
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

  const base = values.base === undefined ? undefined : await openCheckpointAt(values.base)
  const task = await openTaskVector(values, base)
  const pool = openPool(threads)
  const bar = progressBar('sweeping')
  const steps = densities.length
  const points: Point[] = []
  let text: SweepEvaluation | undefined
  try {
    if (values.eval !== undefined) {
      // Loaded only here: it brings onnxruntime along.
      const { SweepEvaluation } = await import('./sweep_evaluation.ts')
      text = await SweepEvaluation.open(values['eval-base'], values.eval, windows, task, rules)
    }
    let payload = memorySpool()
    const context = {
      run: pool?.run,
      sha256: sha256OfFile,
      spoolFor() {
        payload = memorySpool()
        // Without a text only the heads are used.
        return values.eval === undefined ? { async append() {} } : payload
      },
      onProgress: ({ done, total }: { done: number; total: number }) =>
        bar.update(Math.floor(points.length / alphas.length) + done / total, steps),
    }
    for await (const row of sweep(task, rules, { densities, alphas }, context)) {
      const scores = await text?.score(row.map(({ head }) => payload.join(head)))
      for (const [i, { head: _, ...point }] of row.entries()) points.push({ ...point, eval: scores?.[i] })
    }
  } finally {
    bar.stop()
    await text?.close()
    pool?.close()
  }
  // The error in the weights is smallest where most of a delta is shrunk away, and says nothing of what the expert does.
  const bestByDensity = text && densities.map((k) => bestOf(points.filter((point) => point.density === k)))
  const best = bestByDensity && bestOf(bestByDensity)
  if (values.json) {
    printJson({ points, bestByDensity, best, base: text?.base, finetuned: text?.finetuned })
  } else {
    printText(textOf(points, bestByDensity ?? []))
    print(...(bestByDensity ?? []).flatMap((point) => edgeNote(point, alphas)))
  }
  return 0
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

/** The smallest KL on the text. */
function bestOf(points: readonly Point[]): Point {
  const cost = ({ eval: scores }: Point) => scores?.kl ?? Number.POSITIVE_INFINITY
  return points.reduce((best, point) => (cost(point) < cost(best) ? point : best))
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

function textOf(points: readonly Point[], best: readonly Point[]): string {
  const scored = points.some((point) => point.eval !== undefined)
  const head = [
    'density',
    'alpha',
    'size',
    '× f16',
    'error',
    'cosine',
    ...(scored ? ['bpb', 'gain kept', 'agreement', 'KL'] : []),
    '',
  ]
  const rows = points.map((point) => [
    `${formatNumber(100 * point.density)}%`,
    point.alpha,
    formatBytes(point.bytes),
    formatNumber(point.ratioToF16, 3),
    point.error.toFixed(4),
    point.cosine.toFixed(4),
    ...(point.eval === undefined
      ? []
      : [
          point.eval.bpb.toFixed(4),
          point.eval.gainKept === null ? '' : `${(100 * point.eval.gainKept).toFixed(1)}%`,
          `${(100 * point.eval.agreement).toFixed(1)}%`,
          point.eval.kl.toFixed(4),
        ]),
    best.includes(point) ? '*' : '',
  ])
  const legend = scored
    ? '* best alpha of its density, by KL'
    : 'Which is best only a text tells: --eval <text>'
  return `${formatTable(head, rows)}\n\n${legend}`
}
