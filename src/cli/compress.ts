import { parseArgs } from 'node:util'
import { compressTaskVector } from '../compress/compress.ts'
import type { CompressContext, CompressReport, ExpertTexts } from '../compress/report.ts'
import { packTerms } from '../compress/terms_input.ts'
import { packTernary } from '../compress/ternary_input.ts'
import { type GenerationSettings, settingsOf, wrongSetting } from '../source/generation_settings.ts'
import { UsageError } from './command.ts'
import { formatBytes, formatNumber } from './format_text.ts'
import {
  checkInputs,
  inputOptions,
  openCheckpointAt,
  openPool,
  openTaskVector,
  ruleFlags,
  ruleOptions,
  sha256OfFile,
  threadCount,
} from './inputs.ts'
import { inspectFile } from './inspect.ts'
import { writeTrit } from './output.ts'
import { note, print, printJson } from './print.ts'
import { progressBar } from './progress.ts'

export const help = `
tritswap compress --base <file|dir> --finetuned <file|dir> --out x.trit
tritswap compress --adapter <peft dir> [--base <file|dir>] --out x.trit
tritswap compress --ternary <signs.safetensors> [--base <file|dir>] --out x.trit
tritswap compress --terms-from <terms.safetensors> [--base <file|dir>] --out x.trit

Makes an expert file: of each tensor's task vector (fine-tuned minus base) the largest entries are kept, each as
+scale or −scale. Checkpoints are safetensors files, or folders with model.safetensors or its shards and index;
or both are ONNX model folders, which are compared initializer by initializer under their checkpoint names.
A LoRA adapter that peft wrote becomes ternary terms, Σ d·x·yᵀ for each target, unless a flag below says how ternary entries are
chosen, or --codec ternary: then its factors themselves are compressed, as are the vectors of (IA)³. --base is needed where an
adapter also holds whole modules or biases, and lets everything be checked. --ternary packs what your own method chose: I8 signs
under the weights' names, an F32 <name>.scale for each, F16 or F32 deltas for the rest. --terms-from packs terms that your own
method made: I8 <target>.x [out, p] and <target>.y [p, in], F32 <target>.d [p], F16 or F32 deltas for the rest.

Terms of LoRA, and with --codec terms of the matrices of a full fine-tuning
  --terms <n>              for each target (default 2; of a full fine-tuning 16)
  --bytes <size>           of the whole file instead, such as 70kB: terms go where they have the most energy for each byte
  --codec <c>              terms (default for LoRA) or ternary

What is kept of ternary tensors
  --density <k>            fraction of entries to keep, over 0 and up to 1 (default 0.05; of LoRA 0.2,
                           of (IA)³ 0.5)
  --score <s>              what ranks entries: balanced (default; |tau| relative to its row and column) or magnitude
  --threshold <t>          tensor (default): the best of each tensor; global: the best of all
  --scale <s>              what an entry is worth: unbiased (default), std or mean
  --alpha <a>              multiplies the scale (default 1)
  --rule published         the choices of the ComPEFT paper: magnitude, global, std; single flags override it
  --include <glob>         only these tensors; --exclude <glob> not these; may be repeated, * matches anything
  --dense <glob>           keep these uncompressed, as f16 (--dense-dtype f32 for f32)
  --override <glob:key=value,…>  other density, alpha, score or scale for some tensors

What is written along
  --label, --description, --prompt, --licence, --base-name   texts for people
  --system <text>          what chats with it begin with
  --generation <json>      how text is generated with it where a call does not say:
                           {"temperature":0.7,"topK":40,"topP":0.9,"minP":0.05,"repetitionPenalty":1.1,
                           "maxNewTokens":256,"stop":["###"]}, any of them

  --threads <n>            worker threads (default: all cores); the file is the same whatever their number
  --json                   print what inspect --json prints, and what was left out

Examples
  tritswap compress --base llama --finetuned llama-poet --density 0.05 --out poet.trit
  tritswap compress --base llama --finetuned llama-poet --rule published --density 0.2 --alpha 2 --out poet.trit
  tritswap compress --base b --finetuned f --override '*embed*:density=0.01' --dense '*norm*' --out x.trit
  tritswap compress --adapter my-lora --base llama --out lora.trit
  tritswap compress --adapter my-lora --base llama --bytes 70kB --out small.trit
  tritswap compress --ternary signs.safetensors --base b --out x.trit
  tritswap compress --terms-from tuned.safetensors --base b --out x.trit
`

const options = {
  ...inputOptions,
  ...ruleFlags,
  ternary: { type: 'string' },
  'terms-from': { type: 'string' },
  out: { type: 'string' },
  label: { type: 'string' },
  description: { type: 'string' },
  prompt: { type: 'string' },
  system: { type: 'string' },
  generation: { type: 'string' },
  licence: { type: 'string' },
  license: { type: 'string' },
  json: { type: 'boolean' },
} as const

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  const { out } = values
  if (out === undefined) throw new UsageError('Cannot compress: expected --out <file.trit>')
  checkInputs(values, ['finetuned', 'adapter', 'ternary', 'terms-from'])
  const rules = ruleOptions(values)
  const threads = threadCount(values.threads)
  const texts: ExpertTexts = {
    label: values.label,
    description: values.description,
    prompt: values.prompt,
    system: values.system,
    generation: values.generation === undefined ? undefined : generationOf(values.generation),
    licence: values.licence ?? values.license,
    createdWith: `tritswap ${__TRITSWAP_VERSION__}`,
  }
  const baseName = values['base-name']
  const base = values.base === undefined ? undefined : await openCheckpointAt(values.base)
  const bar = progressBar('compressing')
  const pool = openPool(threads)
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
      if (values.ternary !== undefined)
        return packTernary(await openCheckpointAt(values.ternary), base, own, context)
      const terms = values['terms-from']
      if (terms !== undefined) return packTerms(await openCheckpointAt(terms), base, own, context)
      return compressTaskVector(await openTaskVector(values, base), { ...rules, ...texts }, context)
    })
  } finally {
    bar.stop()
    pool?.close()
  }
  await printReport(out, report, values.json === true)
  return 0
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

async function printReport(out: string, report: CompressReport, json: boolean): Promise<void> {
  const { empty, unmoved, skipped, notes } = report
  const inspection = await inspectFile(out)
  if (json) {
    printJson({ ...inspection, empty, unmoved, skipped, notes })
    return
  }
  const { totals, file } = inspection
  const lines = [
    `${out}: ${formatBytes(file.bytes)}, ${inspection.tensors.length} tensors, ${totals.kept} of ${totals.weights} weights kept`,
    `${formatNumber(totals.ratioToF16)} × smaller than the same deltas in f16, ${formatNumber(totals.ratioToEntropy)} × entropy`,
    ...notes,
    ...list('Left out because they equal the base', unmoved),
    ...list('Left out as asked', skipped),
  ]
  print(...lines)
  note(...list('Warning: nothing is kept of', empty))
}

function list(what: string, names: readonly string[]): string[] {
  if (names.length === 0) return []
  return [
    `${what}: ${names.slice(0, 4).join(', ')}${names.length > 4 ? ` and ${names.length - 4} more` : ''}`,
  ]
}
