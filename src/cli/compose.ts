import { writeFile } from 'node:fs/promises'
import { mergeExperts } from '../compress/merge.ts'
import { chatExample, type Example } from '../engine/answered_example.ts'
import { factorOf } from '../format/contributions.ts'
import {
  type Candidate,
  type Composition,
  composeWeights,
  type Gain,
  MAX_COMPOSED,
} from '../model/compose.ts'
import type { LayerGroups } from '../model/layer_groups.ts'
import { parseChats } from './chats.ts'
import { forceOption, jsonOption, newCommand, UsageError } from './command.ts'
import { EVAL_BASE } from './defaults.ts'
import { type Evaluation, withEvaluation } from './evaluation.ts'
import { readText, readWhole } from './file_source.ts'
import { formatTable } from './format_text.ts'
import { threadsOption } from './inputs.ts'
import { alpha, parsed, wholeNumber } from './numbers.ts'
import { withExpertFiles } from './open_experts.ts'
import { outputFile, writeTrit } from './output.ts'
import { nameOf } from './place.ts'
import { printJson, printText } from './print.ts'
import { progressBar } from './progress.ts'
import { expertSum } from './variants.ts'
import { defaultThreads } from './worker_pool.ts'

const DESCRIPTION = `
Searches weights for experts of one base that together do best on a few examples, without gradients (LoraHub), and says
whether that beats choosing: often it does not. Scored are the base, each expert alone, all averaged, and the composition, which
wins only where it is better than the best of the others by more than the examples can tell. With --groups it goes on with weights
that differ by groups of layers, as mixtures of LoRA experts do; they win over all the others by the same rule.

Examples are chats with wanted answers, as for tritswap eval --chats: five or more. Report on others than these.
`

const EXAMPLES = [
  'tritswap compose --base models/mine --examples chats.jsonl poet.trit other.trit --evaluations 6',
  'tritswap compose --base models/mine --examples chats.jsonl poet.trit other.trit --evaluations 6 --out composed.trit',
]

export function command() {
  return newCommand('compose', DESCRIPTION, EXAMPLES)
    .argument('<file.trit...>', `up to ${MAX_COMPOSED}`)
    .requiredOption('--examples <file>', 'chats with the answers that are wanted: JSON lines')
    .option('--base <folder>', 'written by tritswap prepare, or with ONNX graphs', EVAL_BASE)
    .option('--system <text>', 'what chats begin with that have no system message')
    .option(
      '--evaluations <n>',
      'how often the examples are scored, candidates included (default: 16 for each expert, 40 to 120)',
      parsed((text, flag) => wholeNumber(text, flag, 1), '--evaluations'),
    )
    .option(
      '--groups <n>',
      'groups of layers to search weights for as well, at most as many as there are layers',
      parsed((text, flag) => wholeNumber(text, flag, 1), '--groups'),
    )
    .option(
      '--regularization <bits>',
      'what a weight of 1 costs, in bits per token (default: 0.05)',
      parsed(alpha, '--regularization'),
    )
    .option('--out <file.trit>', 'write what wins as one expert')
    .addOption(forceOption())
    .addOption(threadsOption())
    .addOption(jsonOption('all candidates with their weights and scores'))
    .action(composed)
}

interface Values {
  examples: string
  base: string
  system?: string
  evaluations?: number
  groups?: number
  regularization?: number
  out?: string
  force?: true
  threads?: number
  json?: true
}

async function composed(files: string[], values: Values): Promise<void> {
  if (files.length > MAX_COMPOSED)
    throw new UsageError(`Cannot compose: expected up to ${MAX_COMPOSED} files, found ${files.length}`)
  const { out: asked, force, threads = defaultThreads() } = values
  const out = asked === undefined ? undefined : await outputFile(asked, 'composed.trit', force)
  const { found, layers } = await withEvaluation(values.base, threads, (evaluation) =>
    search(evaluation, files, values),
  )
  const notWritten = out === undefined ? undefined : await write(found, layers, files, out)
  const written = notWritten === undefined ? out : undefined
  if (values.json) printJson({ experts: files, ...found, out: written, notWritten })
  else printText(compositionText(files, found, written, notWritten))
}

async function search(
  evaluation: Evaluation,
  files: readonly string[],
  values: Values,
): Promise<{ found: Composition; layers: LayerGroups }> {
  const { template } = evaluation.tokenizer
  const examples: Example[] = parseChats(await readText(values.examples), values.examples).map((chat) =>
    chatExample(chat, template, values.system),
  )
  const sum = await expertSum(evaluation.base, files)
  const { layers } = sum
  const bar = progressBar('composing')
  try {
    const { evaluations, groups, regularization } = values
    if (groups !== undefined) layers.checkCount(groups)
    const found = await composeWeights(
      files.length,
      (weights, byGroup) => evaluation.score(examples, { change: sum.change(weights, byGroup) }),
      { evaluations, groups, regularization, onProgress: ({ done, total }) => bar.update(done, total) },
    )
    return { found, layers }
  } finally {
    bar.stop()
    await sum.close()
  }
}

/** Writes what won. @returns why nothing is written, where nothing is */
async function write(
  { weights, groups }: Composition,
  layers: LayerGroups,
  files: readonly string[],
  out: string,
): Promise<string | undefined> {
  const used = files.flatMap((file, i) => {
    const own = groups?.[i] ?? [weights[i]]
    return own.every((weight) => weight === 0) ? [] : [{ file, own }]
  })
  if (used.length === 0) return 'the base needs no expert'
  if (used.length === 1 && used[0].own.length === 1 && used[0].own[0] === 1) {
    await writeFile(out, await readWhole(used[0].file))
    return undefined
  }
  return withExpertFiles(
    used.map(({ file }) => file),
    async (experts) => {
      // What was scored is the sum of the products of factors; merged entry by entry, factors give another one.
      if (experts.some(({ head }) => head.table.tensors.some((tensor) => factorOf(tensor) !== undefined)))
        return 'factors of LoRA do not add up to one expert; activate the experts with these weights, or compress the adapters to terms'
      await writeTrit(out, (spool) =>
        mergeExperts(
          experts,
          {
            method: 'task-arithmetic',
            weights: (target) => used.map(({ own }) => own[layers.of(target, own.length)]),
            createdWith: `tritswap ${__TRITSWAP_VERSION__}`,
          },
          { spool },
        ),
      )
      return undefined
    },
  )
}

/** What won, for people. */
const NAMES: Readonly<Record<Candidate['name'], string>> = {
  nothing: 'the base',
  alone: 'one alone',
  average: 'all averaged',
  composed: 'composed',
  'composed by layers': 'composed by layers',
}

function compositionText(
  files: readonly string[],
  { name, candidates, gain, groupsGain, evaluations }: Composition,
  written: string | undefined,
  notWritten: string | undefined,
): string {
  const rows = candidates.map((candidate) => [
    NAMES[candidate.name],
    ...candidate.weights.map((weight, i) =>
      (candidate.groups?.[i] ?? [weight]).map((one) => one.toFixed(3)).join(' '),
    ),
    candidate.bitsPerToken.toFixed(4),
  ])
  const table = formatTable(['candidate', ...files.map(nameOf), 'bits a token'], rows)
  const gained = ({ value, se }: Gain) => `${value.toFixed(4)} ± ${se.toFixed(4)} bits a token`
  const byLayers = groupsGain && `, and by layers ${gained(groupsGain)} on all of these`
  const lines = [
    table,
    '',
    `${NAMES[name]} wins: the composition gains ${gained(gain)} on the best of the others${byLayers ?? ''} (${evaluations} evaluations)`,
  ]
  if (written !== undefined) lines.push(`${written} written`)
  else if (notWritten !== undefined) lines.push(`nothing written: ${notWritten}`)
  return lines.join('\n')
}
