import { Option } from '@commander-js/extra-typings'
import { type MergeOptions, mergeExperts } from '../compress/merge.ts'
import { MERGE_METHODS, type MergeMethod } from '../compress/merged_values.ts'
import type { CompressReport } from '../compress/report.ts'
import { forceOption, jsonOption, newCommand, UsageError } from './command.ts'
import { formatBytes, formatNumber } from './format_text.ts'
import { type RuleValues, ruleOptions, withSelection } from './inputs.ts'
import { inspectFile } from './inspect.ts'
import { withExpertFiles } from './open_experts.ts'
import { outputFile, writeTrit } from './output.ts'
import { nameOf } from './place.ts'
import { print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

const DESCRIPTION = `
Makes one expert out of several experts of one base. Their values are brought together entry by entry, and the result is
made ternary again. A sum of terms is the terms of all, which is exact; with ties their values are voted on, and become terms anew.

  average           weighted mean
  task-arithmetic   weighted sum
  ties              per entry, elect the sign with the larger sum and take the mean of the values that have it
`

const EXAMPLES = [
  'tritswap merge poet.trit other.trit --method ties --density 10% --out both.trit',
  'tritswap merge poet.trit other.trit --method task-arithmetic --weights=0.7,-0.3 --out mix.trit',
]

export function command() {
  const merge = newCommand('merge', DESCRIPTION, EXAMPLES)
    .argument('<file.trit...>', 'two or more')
    .addOption(
      new Option('--method <m>', 'how values are brought together')
        .choices(MERGE_METHODS)
        .makeOptionMandatory(),
    )
    .option(
      '--weights <w,w,…>',
      'one number for each expert (default: all 1); with a negative one, as in --weights=1,-0.5, the task of that expert is taken away',
    )
  return withSelection(merge)
    .option(
      '--dense',
      'keep everything, as f16 deltas; the density, and the number of terms, is else that of the experts',
    )
    .optionsGroup('What is written along, for people:')
    .option('--label <text>')
    .option('--description <text>')
    .option('--prompt <text>', 'one that shows what the expert does')
    .option('--licence <text>', 'such as Apache-2.0')
    .optionsGroup('Options:')
    .requiredOption('--out <file.trit>', 'where to write')
    .addOption(forceOption())
    .addOption(jsonOption('what inspect --json prints'))
    .action(merged)
}

interface Values extends Omit<RuleValues, 'dense'> {
  method: MergeMethod
  weights?: string
  dense?: true
  label?: string
  description?: string
  prompt?: string
  licence?: string
  out: string
  force?: true
  json?: true
}

async function merged(files: string[], values: Values): Promise<void> {
  const {
    method,
    weights,
    dense,
    label,
    description,
    prompt,
    licence,
    force,
    json,
    out: asked,
    ...rules
  } = values
  if (files.length < 2)
    throw new UsageError(`Cannot merge: expected at least two files, found ${files.length}`)
  if (dense === true && rules.density !== undefined)
    throw new UsageError('Cannot merge: expected --dense or --density, found both')
  const options: MergeOptions = {
    ...ruleOptions(rules),
    method,
    weights: weights === undefined ? undefined : weightList(weights, files.length),
    dense,
    ...{ label, description, prompt, licence },
    createdWith: `tritswap ${__TRITSWAP_VERSION__}`,
  }
  const out = await outputFile(asked, `${files.map(nameOf).join('-')}.trit`, force)
  const bar = progressBar('merging')
  let report: CompressReport
  try {
    report = await withExpertFiles(files, (experts) =>
      writeTrit(out, (spool) =>
        mergeExperts(experts, options, { spool, onProgress: ({ done, total }) => bar.update(done, total) }),
      ),
    )
  } finally {
    bar.stop()
  }
  const inspection = await inspectFile(out)
  if (json) {
    printJson({ ...inspection, notes: report.notes })
    return
  }
  const { file, totals, tensors } = inspection
  const lines = [
    `${out}: ${formatBytes(file.bytes)}, ${tensors.length} tensors, ${totals.kept} of ${totals.weights} weights kept`,
    `${formatNumber(totals.ratioToF16)} × smaller than the same deltas in f16, ${formatNumber(totals.ratioToEntropy)} × entropy`,
    ...report.notes,
  ]
  print(...lines)
}

function weightList(text: string, experts: number): number[] {
  const weights = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  if (weights.length !== experts || !weights.every(Number.isFinite)) {
    throw new UsageError(`Cannot use --weights ${text}: expected ${experts} numbers with commas between`)
  }
  return weights
}
