import { stat, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { readHead } from '../format/index.ts'
import { type BaseIdentity, checkBase } from '../model/base_check.ts'
import { REPORT_WINDOWS } from '../model/score.ts'
import { UsageError } from './command.ts'
import { type Subject, subjectsOf } from './eval_subjects.ts'
import { Evaluation, type WindowRange } from './evaluation.ts'
import { openFile, readText } from './file_source.ts'
import { formatTable } from './format_text.ts'
import { identityOf, staysQuantized } from './prepared_base.ts'
import { note, printText } from './print.ts'
import { progressBar } from './progress.ts'
import { gainRetained } from './scores.ts'
import { deltaBytes, expertVariant, finetunedTensors, type Variant } from './variants.ts'

export const help = `
tritswap eval [--json out.json] [--experts austen,css]
tritswap eval --expert x.trit --finetuned <file|dir> --text t.txt [--json out.json]

Measures experts on text they were not trained on: bits per byte of the base, of the uncompressed fine-tuning and of
the compressed expert; the share of the fine-tuning's gain that is kept; how often compressed and uncompressed rank
the same token first (agreement) and KL(uncompressed || compressed) in bits per token. Texts are cut into windows of
256 tokens, of which the first 24 are for reporting: choose densities and multipliers on later ones.

  --base <dir>        written by tritswap prepare (default: public/models/demo); one whose weights stay quantized
                      has experts beside them, and is compared with nothing else
  --registry <file>   the experts to measure (default: public/experts/experts.json)
  --experts <ids>     only these of them, separated by commas
  --demo-model <dir>  where the uncompressed fine-tunings are, as finetuned/<id>, for the bundled experts
                      (without it their columns stay empty)
  --expert <x.trit>   one that is in no registry, with --text and, to compare, --finetuned
  --finetuned <path>  its uncompressed fine-tuning: safetensors, a folder, or a .trit file with dense tensors
  --text <file>       a text of its domain
  --windows <n>       how many windows (default 24)
  --from <n>          the first one (default 0)
  --json <file>       also write the figures there
`

const options = {
  base: { type: 'string', default: 'public/models/demo' },
  registry: { type: 'string', default: 'public/experts/experts.json' },
  experts: { type: 'string' },
  'demo-model': { type: 'string' },
  expert: { type: 'string' },
  finetuned: { type: 'string' },
  text: { type: 'string' },
  windows: { type: 'string', default: String(REPORT_WINDOWS) },
  from: { type: 'string', default: '0' },
  json: { type: 'string' },
} as const

/** Figures of one expert, null where they need an uncompressed fine-tuning that was not given. */
export interface ExpertFigures {
  id: string
  bytes: number
  ratioToF16Delta: number | null
  bpb: { base: number; finetuned: number | null; compressed: number }
  gainKept: number | null
  agreement: number | null
  kl: number | null
  windows: number
}

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  const range = {
    from: wholeNumber(values.from, '--from', 0),
    count: wholeNumber(values.windows, '--windows', 1),
  }
  const subjects = await subjectsOf(values)
  if (subjects.some(({ finetuned }) => finetuned === undefined)) {
    note(
      'The uncompressed fine-tunings are not here: what compares with them stays empty; give --demo-model <path>',
    )
  }
  const evaluation = await Evaluation.open(values.base)
  const experts: ExpertFigures[] = []
  const bar = progressBar('evaluating')
  try {
    const identity = identityOf(evaluation.base, values.base)
    const steps = subjects.length * range.count
    let done = 0
    // Compressions of one fine-tuning share the forward passes of the fine-tuning and of the base.
    for (const group of groupedBy(subjects, ({ text, finetuned }) => `${text}\n${finetuned}`)) {
      const onWindow = (windows: number) => bar.update(done + windows * group.length, steps)
      experts.push(...(await measure(group, evaluation, identity, range, onWindow)))
      done += group.length * range.count
    }
    experts.sort((a, b) => order(subjects, a.id) - order(subjects, b.id))
  } finally {
    bar.stop()
    await evaluation.close()
  }
  printText(tableOf(experts))
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ experts }, null, 2)}\n`)
  return 0
}

/** Experts that were made from one fine-tuning, on its text. */
async function measure(
  subjects: readonly Subject[],
  evaluation: Evaluation,
  identity: BaseIdentity,
  range: WindowRange,
  onWindow: (done: number) => void,
): Promise<ExpertFigures[]> {
  const [{ text, finetuned }] = subjects
  const variants: Variant[] = []
  for (const { path } of subjects) {
    const file = await openFile(path)
    try {
      checkBase((await readHead(file)).table, path, identity)
    } finally {
      await file.close()
    }
    variants.push(await expertVariant(evaluation.base, path))
  }
  const tuned =
    finetuned === undefined || staysQuantized(evaluation.base)
      ? undefined
      : await finetunedTensors(evaluation.base, finetuned)
  const windows = evaluation.text(await readText(text))
  const result = await evaluation.score(windows, range, { finetuned: tuned, variants, onWindow })
  const figures: ExpertFigures[] = []
  for (const [i, { id, path, f16Delta }] of subjects.entries()) {
    const { size: bytes } = await stat(path)
    const { bpb, agreement, kl } = result.variants[i]
    const delta = tuned === undefined ? f16Delta : deltaBytes(tuned)
    figures.push({
      id,
      bytes,
      ratioToF16Delta: delta === undefined ? null : delta / bytes,
      bpb: { base: result.base.bpb, finetuned: result.finetuned?.bpb ?? null, compressed: bpb },
      gainKept: (result.finetuned && gainRetained(result.base.bpb, result.finetuned.bpb, bpb)) ?? null,
      agreement: agreement ?? null,
      kl: kl ?? null,
      windows: result.windows,
    })
  }
  return figures
}

function groupedBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>()
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item])
  return [...groups.values()]
}

function order(subjects: readonly Subject[], id: string): number {
  return subjects.findIndex((subject) => subject.id === id)
}

function tableOf(experts: readonly ExpertFigures[]): string {
  const number = (value: number | null, digits: number) => (value === null ? '' : value.toFixed(digits))
  const share = (value: number | null) => (value === null ? '' : `${(100 * value).toFixed(1)}%`)
  return formatTable(
    ['expert', 'bytes', 'smaller', 'base', 'fine-tuned', 'compressed', 'gain kept', 'agreement', 'KL'],
    experts.map(({ id, bytes, ratioToF16Delta, bpb, ...rest }) => [
      id,
      bytes,
      ratioToF16Delta === null ? '' : `${ratioToF16Delta.toFixed(1)}×`,
      number(bpb.base, 3),
      number(bpb.finetuned, 3),
      number(bpb.compressed, 3),
      share(rest.gainKept),
      share(rest.agreement),
      number(rest.kl, 3),
    ]),
  )
}

function wholeNumber(value: string, option: string, least: number): number {
  const number = Number(value)
  if (!Number.isInteger(number) || number < least) {
    throw new UsageError(
      `Cannot evaluate: expected ${option} to be a whole number from ${least}, found ${value}`,
    )
  }
  return number
}
