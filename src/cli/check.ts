import { Option } from '@commander-js/extra-typings'
import { DTYPE_SUFFIX, type ModelDtype } from '../format/dtype.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import type { QuantizedChoice } from '../onnx/index.ts'
import { type CheckReport, type CheckRequest, checkModel } from './check_model.ts'
import { AnswerIsNo, jsonOption, newCommand, several, UsageError } from './command.ts'
import { CHECK_TOLERANCE } from './defaults.ts'
import { fraction, number } from './numbers.ts'
import { note, print, printJson } from './print.ts'

const DESCRIPTION = `
Says whether a model, and experts on it, give the outputs that torch gives: runs the model's graph on the CPU on the inputs
in a safetensors file, binds the experts by the same rules as a page does, and prints for each wanted tensor of the file
the largest difference, over the range of the wanted values. Where the file has a tensor "base", the model without experts
is compared with it. Nothing is written into the model's folder.

Exit code 0 where every difference is within the tolerance, 1 where one is not or with an error on stderr.
`

const EXAMPLES = [
  'tritswap check --model onnx-model --inputs expected.safetensors',
  'tritswap check --model onnx-model --inputs expected.safetensors --expert whole.trit --want poet',
]

export function command() {
  return newCommand('check', DESCRIPTION, EXAMPLES)
    .requiredOption('--model <folder>', 'as transformers.js loads it, or written by tritswap prepare')
    .requiredOption(
      '--inputs <file>',
      "the graph's inputs by name (input_ids, pixel_values, decoder_input_ids, …) in I64, I32, F32, F16 or BOOL, and the wanted outputs; masks, positions and empty caches that are not there are made: no token is masked, positions count from 0",
    )
    .option('--expert <file.trit>', 'an expert; may be repeated: all of them work together', several)
    .option('--weight <w>', 'of every expert, or once for each in their order (default: 1)', several)
    .option(
      '--want <tensor>',
      'what the outputs must be with the experts, or without where there is none; may be repeated; of a language model all positions, or the last one alone',
      several,
    )
    .option(
      '--want-base <tensor>',
      'what they must be without experts (default: base, if the file has it; "none" to leave it out)',
    )
    .option('--output <name>', 'output of the graph (default: logits, else the first)')
    .addOption(
      new Option('--binding <binding>', 'how experts meet the weights; auto: as a page does by itself')
        .choices(['auto', 'merge', 'side', 'input'] as const)
        .default('auto' as const),
    )
    .option(
      '--tolerance <t>',
      'largest difference that is right; the default suits f32 graphs, 2e-2 (or 2%) f16 ones',
      tolerance,
      CHECK_TOLERANCE,
    )
    .optionsGroup('For a folder that is not prepared, as for tritswap prepare:')
    .option('--checkpoint <path>')
    .addOption(new Option('--dtype <dtype>').choices(Object.keys(DTYPE_SUFFIX) as ModelDtype[]))
    .option('--subfolder <name>')
    .addOption(new Option('--quantized <what>').choices(['float', 'keep'] as const))
    .optionsGroup('Options:')
    .addOption(
      jsonOption('{model, graph, output, tolerance, right, results: [{name, difference, right}], moved, …}'),
    )
    .action(async (values) => {
      const report = await checkModel(requestOf(values))
      if (values.json) printJson(report)
      else printReport(report)
      if (!report.right) throw new AnswerIsNo()
    })
}

function tolerance(text: string): number {
  const value = fraction(text, '--tolerance')
  if (value >= 0) return value
  throw new UsageError('Cannot check: expected --tolerance to be 0 or more')
}

interface Values {
  model: string
  inputs: string
  expert?: string[]
  weight?: string[]
  want?: string[]
  wantBase?: string
  output?: string
  binding: BindingChoice
  tolerance: number
  checkpoint?: string
  dtype?: ModelDtype
  subfolder?: string
  quantized?: QuantizedChoice
}

/** @throws {UsageError} */
function requestOf(values: Values): CheckRequest {
  const { model, inputs, wantBase, output, binding, tolerance, expert = [], weight = [], want = [] } = values
  if (expert.length > 0 && want.length === 0) {
    throw new UsageError(
      'Cannot check: expected --want <tensor> beside --expert: the tensor of --inputs that it must give',
    )
  }
  const { checkpoint, dtype, subfolder, quantized } = values
  return {
    ...{ model, inputs, wantBase, output, binding, tolerance },
    experts: weighted(expert, weight),
    wants: want,
    prepare: { checkpoint, dtype, subfolder, quantized },
  }
}

function weighted(paths: readonly string[], texts: readonly string[]): CheckRequest['experts'] {
  if (texts.length > 1 && texts.length !== paths.length) {
    throw new UsageError(
      `Cannot check: expected one --weight, or one for each of the ${paths.length} experts, found ${texts.length}`,
    )
  }
  const weights = texts.map((text) => number(text, '--weight')!)
  return paths.map((path, i) => ({ path, weight: weights[i] ?? weights[0] ?? 1 }))
}

function printReport({ results, tolerance, moved, experts, unmatched }: CheckReport): void {
  if (unmatched.length > 0) {
    note(`${unmatched.length} weights stay in the graph, out of reach of experts (${listOf(unmatched)})`)
  }
  for (const { file, renamed, unused, baseMatch } of experts) {
    if (baseMatch === 'unknown') note(`${file}: only names and shapes say that it was made for this base`)
    const names = Object.entries(renamed).map((pair) => pair.join(' → '))
    if (names.length > 0) note(`${file}: ${names.length} tensors go by another name here (${listOf(names)})`)
    if (unused.length > 0) note(`${file}: no graph uses ${unused.length} of its tensors (${listOf(unused)})`)
  }
  if (moved !== undefined) note(`the outputs moved by ${formatDifference(moved)} of their range`)
  for (const { name, difference, right } of results) {
    print(`${name} ${formatDifference(difference)}`)
    if (!right) note(`${name} is over the tolerance of ${tolerance}`)
  }
}

function listOf(names: readonly string[]): string {
  return `${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}`
}

function formatDifference(value: number): string {
  return value === 0 ? '0' : value.toExponential(1)
}
