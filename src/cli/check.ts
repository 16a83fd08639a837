import { parseArgs } from 'node:util'
import { isModelDtype } from '../format/dtype.ts'
import type { BindingChoice } from '../model/expert_bindings.ts'
import type { QuantizedChoice } from '../onnx/index.ts'
import { type CheckReport, type CheckRequest, checkModel } from './check_model.ts'
import { UsageError } from './command.ts'
import { number } from './inputs.ts'
import { note, print, printJson } from './print.ts'

export const help = `
tritswap check --model <folder> --inputs <x.safetensors> [--expert <x.trit> …] [--want <tensor> …]

Says whether a model, and experts on it, give the outputs that torch gives: runs the model's graph on the CPU on the
inputs in a safetensors file, binds the experts by the same rules as a page does, and prints for each wanted tensor
of the file the largest difference, over the range of the wanted values. Where the file has a tensor "base", the model
without experts is compared with it.

  --model <folder>         as transformers.js loads it, or written by tritswap prepare
  --inputs <file>          the graph's inputs by name (input_ids, pixel_values, decoder_input_ids, …) in I64, I32, F32,
                           F16 or BOOL, and the wanted outputs; masks, positions and empty caches that are not there
                           are made: no token is masked, positions count from 0
  --expert <x.trit>        an expert; may be given several times: all of them work together
  --weight <w>             of every expert, or once for each in their order (default 1)
  --want <tensor>          what the outputs must be with the experts, or without where there is none; may be given
                           several times; of a language model all positions, or the last one alone
  --want-base <tensor>     what they must be without experts (default: base, if the file has it; "none" to leave it out)
  --output <name>          output of the graph (default: logits, else the first)
  --binding <binding>      merge, side or input for all experts (default auto: what a page does by itself)
  --tolerance <t>          largest difference that is right (default 1e-3, for f32 graphs; 2e-2 suits f16 ones)
  --checkpoint, --dtype, --subfolder, --quantized
                           as for tritswap prepare, for a folder that is not prepared; nothing is written into it
  --json                   {model, graph, output, tolerance, right, results: [{name, difference, right}], moved, …}

Exit code 0 where every difference is within the tolerance, 1 where one is not or with an error on stderr.

Example
  tritswap check --model onnx-model --inputs expected.safetensors --expert expert.trit --want lora
`

const options = {
  model: { type: 'string' },
  inputs: { type: 'string' },
  expert: { type: 'string', multiple: true },
  weight: { type: 'string', multiple: true },
  want: { type: 'string', multiple: true },
  'want-base': { type: 'string' },
  output: { type: 'string' },
  binding: { type: 'string', default: 'auto' },
  tolerance: { type: 'string', default: '1e-3' },
  checkpoint: { type: 'string' },
  dtype: { type: 'string' },
  subfolder: { type: 'string' },
  quantized: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

export async function run(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options })
  const report = await checkModel(requestOf(values))
  if (values.json) printJson(report)
  else printReport(report)
  return report.right ? 0 : 1
}

/** @throws {UsageError} */
function requestOf(values: Values): CheckRequest {
  const { model, inputs, binding, dtype, quantized, expert = [], want = [] } = values
  if (model === undefined || inputs === undefined) {
    throw new UsageError('Cannot check: expected --model <folder> and --inputs <file>')
  }
  if (expert.length > 0 && want.length === 0) {
    throw new UsageError(
      'Cannot check: expected --want <tensor> beside --expert: the tensor of --inputs that it must give',
    )
  }
  if (!['auto', 'merge', 'side', 'input'].includes(binding)) {
    throw new UsageError(`Cannot check: expected --binding merge, side, input or auto, found ${binding}`)
  }
  if (dtype !== undefined && !isModelDtype(dtype)) {
    throw new UsageError(`Cannot check: --dtype ${dtype} is not one that transformers.js knows`)
  }
  if (quantized !== undefined && quantized !== 'keep' && quantized !== 'float') {
    throw new UsageError(`Cannot check: expected --quantized float or keep, found ${quantized}`)
  }
  const tolerance = number(values.tolerance, '--tolerance')!
  if (tolerance < 0) throw new UsageError('Cannot check: expected --tolerance to be 0 or more')
  return {
    model,
    inputs,
    experts: weighted(expert, values.weight ?? []),
    wants: want,
    wantBase: values['want-base'],
    output: values.output,
    binding: binding as BindingChoice,
    tolerance,
    prepare: {
      checkpoint: values.checkpoint,
      dtype,
      subfolder: values.subfolder,
      quantized: quantized as QuantizedChoice | undefined,
    },
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
