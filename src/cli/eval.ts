import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { REPORT_WINDOWS } from '../model/score.ts'
import { UsageError } from './command.ts'
import { answersTable, type ChatFlags, evaluateChats } from './eval_chats.ts'
import { subjectsOf } from './eval_subjects.ts'
import { evaluateTexts, textTable } from './eval_text.ts'
import { withEvaluation } from './evaluation.ts'
import { threadCount } from './inputs.ts'
import { note, printText } from './print.ts'

export const help = `
tritswap eval [--json out.json] [--experts austen,css]
tritswap eval --expert x.trit --finetuned <file|dir> --text t.txt [--json out.json]
tritswap eval --chats test.jsonl --base <dir> [--adapter <dir>] [--expert x.trit …] [--json out.json]

Measures experts on what they were not trained on: on texts, or on chats with wanted answers.

Texts: bits per byte of the base, of the uncompressed fine-tuning and of the compressed expert; the share of the
fine-tuning's gain that is kept; how often compressed and uncompressed rank the same token first (agreement) and
KL(uncompressed || compressed) in bits per token. Texts are cut into windows of 256 tokens, of which the first 24 are for
reporting: choose densities and multipliers on later ones.

Chats: lines {"user", "assistant"}, with "system" or not, or {"messages"} that end with the assistant's. An answer is
exact where a greedy generation would give it: each of its tokens, and the one that closes it, is the first choice
behind those before it. Tokens, bits, agreement and KL are those of the answers alone. Behind ± stands the standard error: of
exact match that of a binomial, of differences that of pairs, else with a chat as one draw. Choose on one file, with
tritswap sweep, and report on another.

  --base <dir>        written by tritswap prepare (default: public/models/demo), or a folder with ONNX graphs; one whose
                      weights stay quantized has experts beside them
  --registry <file>   the experts to measure (default: public/experts/experts.json)
  --experts <ids>     only these of them, separated by commas
  --demo-model <dir>  where the uncompressed fine-tunings are, as finetuned/<id>, for the bundled experts
                      (without it their columns stay empty)
  --expert <x.trit>   one that is in no registry; with --text one alone, with --chats several
  --finetuned <path>  an uncompressed fine-tuning: safetensors, a folder, or a .trit file with dense tensors
  --adapter <dir>     an uncompressed adapter as peft saves it; with --chats several of both: an expert is compared
                      with the last one before it on the command line, or else with the first
  --checkpoint <path> safetensors of the base, for adapters that save modules whole (default: in --base, if there)
  --json <file>       also write the figures there
  --threads <n>       (default: as many as there are cores)

  --text <file>       a text of the expert's domain
  --windows <n>       how many windows (default 24), --from <n> the first one (default 0)

  --chats <file>      with the answers that are wanted
  --system <text>     what the skill says first; by default what the registry has for the expert
  --limit <n>         only the first n chats
`

const options = {
  base: { type: 'string', default: 'public/models/demo' },
  registry: { type: 'string', default: 'public/experts/experts.json' },
  experts: { type: 'string' },
  'demo-model': { type: 'string' },
  expert: { type: 'string', multiple: true },
  finetuned: { type: 'string', multiple: true },
  adapter: { type: 'string', multiple: true },
  checkpoint: { type: 'string' },
  text: { type: 'string' },
  chats: { type: 'string' },
  system: { type: 'string' },
  limit: { type: 'string' },
  windows: { type: 'string', default: String(REPORT_WINDOWS) },
  from: { type: 'string', default: '0' },
  threads: { type: 'string' },
  json: { type: 'string' },
} as const

export async function run(argv: string[]): Promise<number> {
  const { values, tokens } = parseArgs({ args: argv, options, tokens: true })
  const threads = threadCount(values.threads)
  if (values.chats !== undefined) {
    const order = tokens.flatMap((token) =>
      token.kind === 'option' && token.value !== undefined ? [{ flag: token.name, path: token.value }] : [],
    )
    const limit = values.limit === undefined ? undefined : wholeNumber(values.limit, '--limit', 1)
    const flags: ChatFlags = { ...values, chats: values.chats, limit, order }
    const result = await withEvaluation(values.base, threads, (evaluation) =>
      evaluateChats(evaluation, flags),
    )
    printText(answersTable(result))
    await writeJson(values.json, result)
    return 0
  }
  const range = {
    from: wholeNumber(values.from, '--from', 0),
    count: wholeNumber(values.windows, '--windows', 1),
  }
  const { adapter, expert, finetuned, ...rest } = values
  const [tuned] = single([...(finetuned ?? []), ...(adapter ?? [])], '--finetuned or --adapter')
  const [one] = single(expert ?? [], '--expert')
  const subjects = await subjectsOf({ ...rest, expert: one, finetuned: tuned })
  if (subjects.some(({ finetuned }) => finetuned === undefined)) {
    note(
      'The uncompressed fine-tunings are not here: what compares with them stays empty; give --demo-model <path>',
    )
  }
  const experts = await withEvaluation(values.base, threads, (evaluation) =>
    evaluateTexts(evaluation, subjects, range),
  )
  printText(textTable(experts))
  await writeJson(values.json, { experts })
  return 0
}

async function writeJson(path: string | undefined, value: object): Promise<void> {
  if (path !== undefined) await writeFile(path, `${JSON.stringify(value, null, 2)}\n`)
}

function single(values: readonly string[], flags: string): readonly string[] {
  if (values.length <= 1) return values
  throw new UsageError(
    `Cannot evaluate on a text: expected one ${flags}, found ${values.length}; only --chats takes several`,
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
