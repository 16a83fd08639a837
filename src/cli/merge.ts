import { parseArgs } from 'node:util'
import { type MergeOptions, mergeExperts } from '../compress/merge.ts'
import { MERGE_METHODS, type MergeMethod } from '../compress/merged_values.ts'
import type { CompressReport } from '../compress/report.ts'
import { UsageError } from './command.ts'
import { formatBytes, formatNumber } from './format_text.ts'
import { ruleOptions } from './inputs.ts'
import { inspectFile } from './inspect.ts'
import { withExpertFiles } from './open_experts.ts'
import { writeTrit } from './output.ts'
import { print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

export const help = `
tritswap merge <a.trit> <b.trit> … --method <m> --out <merged.trit>

Makes one expert out of several experts of one base. Their values are brought together entry by entry, and the result is
made ternary again. A sum of terms is the terms of all, which is exact; with ties their values are voted on, and become terms anew.

  --method average           weighted mean
  --method task-arithmetic   weighted sum
  --method ties              per entry, elect the sign with the larger sum and take the mean of the values that have it
  --weights <w,w,…>          one number for each expert (default: all 1); with a negative one, as in
                             --weights=1,-0.5, the task of that expert is taken away

What is kept of the result
  --density <k>              fraction of entries (default: that of the densest expert)
  --dense                    keep everything, as f16 deltas (--dense-dtype f32 for f32)
  --terms <n>                so many terms of each target, found anew on the sum (default: those of all experts)
  --bytes <size>             terms that fill a file of this size
  --alpha, --scale, --score, --threshold, --rule published   as for tritswap compress

What is written along
  --label, --description, --prompt, --licence   texts for people

  --json                     print what inspect --json prints

Examples
  tritswap merge austen.trit bard.trit --method ties --density 0.1 --out both.trit
  tritswap merge a.trit b.trit --method task-arithmetic --weights 0.7,0.3 --out mix.trit
`

const options = {
  method: { type: 'string' },
  weights: { type: 'string' },
  density: { type: 'string' },
  terms: { type: 'string' },
  bytes: { type: 'string' },
  dense: { type: 'boolean' },
  'dense-dtype': { type: 'string' },
  alpha: { type: 'string' },
  scale: { type: 'string' },
  score: { type: 'string' },
  threshold: { type: 'string' },
  rule: { type: 'string' },
  label: { type: 'string' },
  description: { type: 'string' },
  prompt: { type: 'string' },
  licence: { type: 'string' },
  out: { type: 'string' },
  json: { type: 'boolean' },
} as const

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: argv, options, allowPositionals: true })
  const { out, dense, label, description, prompt, licence, weights, json, method, ...rules } = values
  if (out === undefined) throw new UsageError('Cannot merge: expected --out <file.trit>')
  if (positionals.length < 2) {
    throw new UsageError(`Cannot merge: expected at least two files, found ${positionals.length}`)
  }
  if (dense === true && rules.density !== undefined) {
    throw new UsageError('Cannot merge: expected --dense or --density, found both')
  }
  const merge: MergeOptions = {
    ...ruleOptions(rules),
    method: methodNamed(method),
    weights: weights === undefined ? undefined : weightList(weights, positionals.length),
    dense,
    ...{ label, description, prompt, licence },
    createdWith: `tritswap ${__TRITSWAP_VERSION__}`,
  }
  const bar = progressBar('merging')
  let report: CompressReport
  try {
    report = await withExpertFiles(positionals, (experts) =>
      writeTrit(out, (spool) =>
        mergeExperts(experts, merge, { spool, onProgress: ({ done, total }) => bar.update(done, total) }),
      ),
    )
  } finally {
    bar.stop()
  }
  const inspection = await inspectFile(out)
  if (json === true) {
    printJson({ ...inspection, notes: report.notes })
    return 0
  }
  const { file, totals, tensors } = inspection
  const lines = [
    `${out}: ${formatBytes(file.bytes)}, ${tensors.length} tensors, ${totals.kept} of ${totals.weights} weights kept`,
    `${formatNumber(totals.ratioToF16)} × smaller than the same deltas in f16, ${formatNumber(totals.ratioToEntropy)} × entropy`,
    ...report.notes,
  ]
  print(...lines)
  return 0
}

function methodNamed(text: string | undefined): MergeMethod {
  const method = MERGE_METHODS.find((name) => name === text)
  if (method !== undefined) return method
  throw new UsageError(`Cannot use --method ${text ?? '(none)'}: expected ${MERGE_METHODS.join(', ')}`)
}

function weightList(text: string, experts: number): number[] {
  const weights = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  if (weights.length !== experts || !weights.every(Number.isFinite)) {
    throw new UsageError(`Cannot use --weights ${text}: expected ${experts} numbers with commas between`)
  }
  return weights
}
