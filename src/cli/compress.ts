import { compressTaskVector } from '../compress/compress.ts'
import type { CompressContext, CompressReport, ExpertTexts } from '../compress/report.ts'
import { packTerms } from '../compress/terms_input.ts'
import { packTernary } from '../compress/ternary_input.ts'
import { type GenerationSettings, settingsOf, wrongSetting } from '../source/generation_settings.ts'
import { forceOption, jsonOption, newCommand, UsageError } from './command.ts'
import { compressWarnings } from './compress_warnings.ts'
import { formatBytes, formatNumber, someOf } from './format_text.ts'
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
import { inspectFile, vectorsText } from './inspect.ts'
import { outputFile, writeTrit } from './output.ts'
import { nameOf } from './place.ts'
import { note, print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

const DESCRIPTION = `
Makes an expert file. Of each tensor's task vector (fine-tuned minus base) the largest entries are kept, each as +scale or
−scale. A LoRA becomes ternary terms instead, Σ d·x·yᵀ for each target, unless a flag says how ternary entries are chosen.

Checkpoints are safetensors files, or folders with model.safetensors or its shards and index; or both are ONNX model
folders, which are compared initializer by initializer under their checkpoint names. A patch as TRL's AsyncGRPO writes it, with the places and
values that changed, stands for the fine-tuned one too. An adapter is a folder as peft saves it, of
any kind that changes weights: LoRA, (IA)³, DoRA, AdaLoRA, VeRA, LoHa, LoKr, OFT, SHiRA and more. --base is needed for all but
LoRA and (IA)³, and where these also hold whole modules or biases; with it everything is checked, and the file refuses other
bases later.
`

const EXAMPLES = [
  'tritswap compress --adapter hf:someone/sql-lora --base hf:someone/tiny-base --out experts/',
  'tritswap compress --adapter my-lora --base base --bytes 20kB --out small.trit',
  'tritswap compress --base base --finetuned poet --density 10% --label Poet --out poet.trit',
  "tritswap compress --base base --finetuned poet --override '*embed*:density=0.01' --dense '*norm*' --out x.trit",
  'tritswap compress --base base --finetuned poet --rule published --density 20% --alpha 2 --out published.trit',
  'tritswap compress --base base --finetuned rl-tuned --lossless --out rl.trit',
  'tritswap compress --base base --finetuned deltas/step_000002.safetensors --lossless --out step.trit',
  'tritswap compress --ternary signs.safetensors --base base --out signs.trit',
  'tritswap compress --terms-from terms.safetensors --base base --out terms.trit',
]

export function command() {
  const inputs = withInputs(newCommand('compress', DESCRIPTION, EXAMPLES))
    .option(
      '--ternary <path>',
      'what your own method chose: I8 signs under the names of weights, an F32 <name>.scale for each, F16 or F32 deltas for the rest',
    )
    .option(
      '--terms-from <path>',
      'terms that your own method made: I8 <target>.x [out, p] and <target>.y [p, in], F32 <target>.d [p], F16 or F32 deltas for the rest',
    )
  return withRules(inputs)
    .optionsGroup('Or without loss:')
    .option(
      '--lossless',
      'every changed weight as its steps from the base, which with it is the fine-tuned checkpoint bit for bit: for fine-tunings that change few weights (reinforcement learning, SHiRA)',
    )
    .optionsGroup('What is written along, for people and for chats:')
    .option('--label <text>')
    .option('--description <text>')
    .option('--prompt <text>', 'one that shows what the expert does')
    .option('--licence <text>', 'such as Apache-2.0')
    .option('--license <text>', 'the same')
    .option('--system <text>', 'what chats with it begin with')
    .option(
      '--generation <json>',
      'how text is generated where a call does not say: {"temperature":0.7,"topK":40,"topP":0.9,"minP":0.05,"repetitionPenalty":1.1,"maxNewTokens":256,"stop":["###"]}, any of them',
      generationOf,
    )
    .optionsGroup('Options:')
    .requiredOption(
      '--out <file.trit>',
      'where to write; a folder, or a path with a slash at its end, takes it under the name of the adapter or fine-tuning',
    )
    .addOption(forceOption())
    .addOption(threadsOption())
    .addOption(jsonOption('what inspect --json prints, and what was left out,'))
    .action(compress)
}

interface Values extends InputValues, RuleValues, Omit<ExpertTexts, 'createdWith'> {
  ternary?: string
  termsFrom?: string
  license?: string
  out: string
  force?: true
  threads?: number
  json?: true
}

async function compress(values: Values): Promise<void> {
  checkInputs(values, ['finetuned', 'adapter', 'ternary', 'termsFrom'])
  const rules = ruleOptions(values)
  const {
    ternary,
    termsFrom,
    baseName,
    label,
    description,
    prompt,
    system,
    generation,
    licence = values.license,
  } = values
  const texts: ExpertTexts = { label, description, prompt, system, generation, licence }
  texts.createdWith = `tritswap ${__TRITSWAP_VERSION__}`
  const from = (values.adapter ?? values.finetuned ?? ternary ?? termsFrom)!
  const out = await outputFile(values.out, `${nameOf(from)}.trit`, values.force)
  const base = values.base === undefined ? undefined : await openCheckpointAt(values.base)
  const bar = progressBar('compressing')
  const pool = openPool(values.threads)
  let report: CompressReport
  try {
    report = await writeTrit(out, async (spool) => {
      const context: CompressContext = {
        spool,
        run: pool?.run,
        sha256: sha256OfFile,
        onProgress: ({ done, total }) => bar.update(done, total),
      }
      const own = { ...texts, baseName }
      if (ternary !== undefined) return packTernary(await openCheckpointAt(ternary), base, own, context)
      if (termsFrom !== undefined) return packTerms(await openCheckpointAt(termsFrom), base, own, context)
      return compressTaskVector(await openTaskVector(values, base), { ...rules, ...texts }, context)
    })
  } finally {
    bar.stop()
    pool?.close()
  }
  const warnings = await compressWarnings(report, await inspectFile(out), {
    base,
    adapter: values.adapter !== undefined,
  })
  await printReport(out, report, warnings, values.json)
}

function generationOf(json: string): GenerationSettings {
  let settings: unknown
  try {
    settings = JSON.parse(json)
  } catch {
    throw new UsageError('Cannot compress: expected JSON after --generation')
  }
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings))
    throw new UsageError('Cannot compress: expected an object after --generation')
  const wrong = wrongSetting(settings as Record<string, unknown>)
  if (wrong !== undefined)
    throw new UsageError(`Cannot compress: expected ${wrong.expected} as ${wrong.field} of --generation`)
  return settingsOf(settings)
}

async function printReport(
  out: string,
  report: CompressReport,
  warnings: readonly string[],
  json?: true,
): Promise<void> {
  const { empty, unmoved, skipped, notes } = report
  const inspection = await inspectFile(out)
  if (json) {
    printJson({ ...inspection, empty, unmoved, skipped, notes, warnings })
    return
  }
  const { totals, file } = inspection
  // Terms and scales change every weight.
  const chooses = totals.kept < totals.weights
  const kept = chooses ? `, ${totals.kept} of ${totals.weights} weights kept` : ''
  const entropy = chooses ? `, ${formatNumber(totals.ratioToEntropy)} × entropy` : ''
  const lines = [
    `${out}: ${formatBytes(file.bytes)}, ${inspection.tensors.length} tensors${kept}`,
    `${formatNumber(totals.ratioToF16)} × smaller than its change of the weights in f16${entropy}`,
    ...(totals.vectors === undefined ? [] : [vectorsText(totals)]),
    ...notes,
    ...list('Left out because they equal the base', unmoved),
    ...list('Left out as asked', skipped),
  ]
  print(...lines)
  note(...warnings.map((warning) => `Warning: ${warning}`))
}

function list(what: string, names: readonly string[]): string[] {
  return names.length === 0 ? [] : [`${what}: ${someOf(names)}`]
}
