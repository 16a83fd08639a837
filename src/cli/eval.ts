import { writeFile } from 'node:fs/promises'
import { forceOption, newCommand, several, UsageError } from './command.ts'
import { EVAL_BASE, EVAL_REGISTRY, EVAL_WINDOWS } from './defaults.ts'
import { answersTable, type ChatFlags, evaluateChats } from './eval_chats.ts'
import { evaluateLabels, labelsTable } from './eval_labels.ts'
import { subjectsOf } from './eval_subjects.ts'
import { evaluateTexts, textTable } from './eval_text.ts'
import { withEvaluation } from './evaluation.ts'
import { threadsOption } from './inputs.ts'
import { withLabelledModel } from './labelled_model.ts'
import { parsed, wholeNumber } from './numbers.ts'
import { refuseTaken } from './output.ts'
import { note, printText } from './print.ts'
import { defaultThreads } from './worker_pool.ts'

const DESCRIPTION = `
Measures experts on what they were not trained on: on texts, on chats with wanted answers, or on labelled texts.

Texts: bits per byte of the base, of the uncompressed fine-tuning and of the compressed expert; the share of the
fine-tuning's gain that is kept; how often compressed and uncompressed rank the same token first (agreement) and
KL(uncompressed || compressed) in bits per token. Texts are cut into windows of 256 tokens, of which the first
${EVAL_WINDOWS.count} are for reporting: choose densities and multipliers on later ones.

Chats: lines {"user", "assistant"}, with "system" or not, or {"messages"} that end with the assistant's. An answer is
exact where a greedy generation would give it: each of its tokens, and the one that closes it, is the first choice
behind those before it. Tokens, bits, agreement and KL are those of the answers alone. Behind ± stands the standard error: of
exact match that of a binomial, of differences that of pairs, else with a chat as one draw. Choose on one file, with
tritswap sweep, and report on another.

Labels: lines {"text", "label"}, of two sentences with the second as "pair". A classifier is right where the class of the label
ranks first; its names are those of the model's config.json. Of an encoder-decoder the label is a text, right where it
is exact as of chats.
`

const EXAMPLES = [
  'tritswap eval --base models/mine --expert poet.trit --finetuned poet --text text.txt --windows 1',
  'tritswap eval --base models/mine --chats chats.jsonl --adapter my-lora --expert lora.trit --json report.json',
  'tritswap eval --base classifier --labels labels.jsonl --expert classifier.trit',
]

export function command() {
  /** Uncompressed and compressed models as they were given: an expert is compared with what stands before it. */
  const order: { flag: string; path: string }[] = []
  const inOrder = (flag: string) => (path: string, before: string[] | undefined) => {
    order.push({ flag, path })
    return several(path, before)
  }
  return newCommand('eval', DESCRIPTION, EXAMPLES)
    .option(
      '--base <folder>',
      'written by tritswap prepare, or with ONNX graphs; one whose weights stay quantized has experts beside them',
      EVAL_BASE,
    )
    .option('--registry <file>', 'the experts to measure', EVAL_REGISTRY)
    .option('--experts <ids>', 'only these of them, separated by commas')
    .option(
      '--demo-model <folder>',
      'where the uncompressed fine-tunings are, as finetuned/<id>, for the bundled experts (without it their columns stay empty)',
    )
    .option(
      '--expert <file.trit>',
      'one that is in no registry; with --text one alone, with --chats or --labels several',
      inOrder('expert'),
    )
    .option(
      '--finetuned <path>',
      'an uncompressed fine-tuning: safetensors, a folder, or a .trit file with dense tensors',
      inOrder('finetuned'),
    )
    .option(
      '--adapter <folder>',
      'an uncompressed adapter as peft saves it; with --chats several of both: an expert is compared with the last one before it on the command line, or else with the first',
      inOrder('adapter'),
    )
    .option(
      '--checkpoint <path>',
      'of the base, for adapters that save modules whole (default: in --base, if there)',
    )
    .optionsGroup('On a text:')
    .option('--text <file>', "of the expert's domain")
    .option('--windows <n>', 'how many', atLeast(1, '--windows'), EVAL_WINDOWS.count)
    .option('--from <n>', 'the first one', atLeast(0, '--from'), EVAL_WINDOWS.from)
    .optionsGroup('On chats:')
    .option('--chats <file>', 'with the answers that are wanted')
    .option('--system <text>', 'what the skill says first; by default what the registry has for the expert')
    .option('--limit <n>', 'only the first so many', atLeast(1, '--limit'))
    .optionsGroup('On labels:')
    .option('--labels <file>', 'texts with what a classifier or an encoder-decoder is to say of them')
    .optionsGroup('Options:')
    .option('--json <file>', 'also write the figures there')
    .addOption(forceOption())
    .addOption(threadsOption())
    .action((values) => evaluate({ ...values, order }))
}

function atLeast(least: number, flag: string) {
  return parsed((text) => wholeNumber(text, flag, least), flag)
}

interface Values extends Omit<ChatFlags, 'chats'> {
  chats?: string
  labels?: string
  demoModel?: string
  expert?: string[]
  finetuned?: string[]
  adapter?: string[]
  text?: string
  windows: number
  from: number
  json?: string
  force?: true
  threads?: number
}

async function evaluate(values: Values): Promise<void> {
  const { chats, labels, windows, from, json, force, threads = defaultThreads() } = values
  if (json !== undefined) await refuseTaken(json, force)
  if (labels !== undefined) {
    const result = await withLabelledModel(values.base, (model) =>
      evaluateLabels(model, { ...values, labels }),
    )
    printText(labelsTable(result))
    await writeJson(json, result)
    return
  }
  if (chats !== undefined) {
    const result = await withEvaluation(values.base, threads, (evaluation) =>
      evaluateChats(evaluation, { ...values, chats }),
    )
    printText(answersTable(result))
    await writeJson(json, result)
    return
  }
  const { adapter = [], expert = [], finetuned = [], ...rest } = values
  const [tuned] = single([...finetuned, ...adapter], '--finetuned or --adapter')
  const [one] = single(expert, '--expert')
  const subjects = await subjectsOf({ ...rest, expert: one, finetuned: tuned })
  if (subjects.some(({ finetuned }) => finetuned === undefined)) {
    note(
      'The uncompressed fine-tunings are not here: what compares with them stays empty; give --finetuned <path>, or --demo-model <folder> for the bundled experts',
    )
  }
  const experts = await withEvaluation(values.base, threads, (evaluation) =>
    evaluateTexts(evaluation, subjects, { from, count: windows }),
  )
  printText(textTable(experts))
  await writeJson(json, { experts })
}

async function writeJson(path: string | undefined, value: object): Promise<void> {
  if (path !== undefined) await writeFile(path, `${JSON.stringify(value, null, 2)}\n`)
}

function single(values: readonly string[], flags: string): readonly string[] {
  if (values.length <= 1) return values
  throw new UsageError(
    `Cannot evaluate on a text: expected one ${flags}, found ${values.length}; only --chats and --labels take several`,
  )
}
