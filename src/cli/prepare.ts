import { Option } from '@commander-js/extra-typings'
import { DTYPE_SUFFIX, isModelDtype, type ModelDtype } from '../format/dtype.ts'
import type { QuantizedChoice, Storage } from '../onnx/index.ts'
import { forceOption, newCommand, several, UsageError } from './command.ts'
import { someOf } from './format_text.ts'
import { number } from './numbers.ts'
import { refuseTakenFolder } from './output.ts'
import { prepareModel } from './prepare_model.ts'
import { note, print } from './print.ts'

const DESCRIPTION = `
Takes the weights that an expert may change out of a model's ONNX graphs, so that they can live in GPU buffers of our own.
Writes the graphs, one weights file and tritswap.json, beside copies of the model's configuration and tokenizer: a folder
that transformers.js and tritswap load.
`

const EXAMPLES = [
  'tritswap prepare onnx-model --out prepared',
  'tritswap prepare hf:someone/onnx-model --dtype fp32 --part 2 --out parts',
]

export function command() {
  return newCommand('prepare', DESCRIPTION, EXAMPLES)
    .argument('<model>', 'a folder as transformers.js takes it, or one of its graphs')
    .requiredOption('--out <folder>', 'where to write')
    .option(
      '--checkpoint <path>',
      'safetensors that the graphs were exported from, for names and fingerprint (default: beside the graphs, if there; "none" to go by names alone)',
    )
    .option(
      '--dtype <dtype,…>',
      `${Object.keys(DTYPE_SUFFIX).join(', ')} (default: fp32, else fp16); of several, as fp32,fp16, all graphs are fed by the same weights, and the first is the default`,
      dtypeList,
    )
    .option(
      '--weights <model.gguf>',
      'take the weights from a GGUF of the same Llama or Qwen model, in its own blocks (Q4_0, Q4_1, Q8_0, F16, BF16, F32), not from the graphs',
    )
    .option('--part <MB>', 'cut the weights file into parts of at most so many megabytes', partBytes)
    .option('--subfolder <name>', 'folder of the graphs in the model folder (default: onnx)')
    .option('--targets <glob>', 'only tensors of these checkpoint names; may be repeated', several)
    .addOption(
      new Option(
        '--quantized <what>',
        'what becomes of 4-bit weights in VRAM: float, dequantized there, so that experts can be merged into them; keep, as small as they are, for experts beside them; either way they travel as 4 bits',
      )
        .choices(['float', 'keep'] as const)
        .default('float' as const),
    )
    .addOption(
      new Option(
        '--storage <what>',
        'how weights are stored; auto: quantized ones as they are, others in f16 where that loses nothing',
      )
        .choices(['auto', 'f16', 'f32'] as const)
        .default('auto' as const),
    )
    .addOption(forceOption())
    .action(prepare)
}

interface Values {
  out: string
  checkpoint?: string
  dtype?: ModelDtype[]
  weights?: string
  part?: number
  subfolder?: string
  targets?: string[]
  quantized: QuantizedChoice
  storage: Storage
  force?: true
}

async function prepare(model: string, values: Values): Promise<void> {
  if (values.quantized === 'keep' && values.storage !== 'auto') {
    throw new UsageError('Cannot prepare: --quantized keep stores weights as they are; leave out --storage')
  }
  if (values.weights !== undefined) {
    if (values.quantized === 'keep' || values.storage !== 'auto' || values.targets !== undefined) {
      throw new UsageError(
        'Cannot prepare: --weights takes all weights as they are, and gives the graphs floats; leave out --quantized, --storage and --targets',
      )
    }
  }
  await refuseTakenFolder(values.out, values.force)
  const [dtype, ...otherDtypes] = values.dtype ?? []
  const result = await prepareModel(model, values.out, {
    checkpoint: values.checkpoint,
    weights: values.weights,
    dtype,
    otherDtypes,
    partBytes: values.part,
    subfolder: values.subfolder,
    targets: values.targets,
    quantized: values.quantized,
    storage: values.storage,
  })
  const { manifest, inputs, tensors, unmatched, quantized, otherForms } = result
  print(
    `${values.out}: ${manifest.graphs.length} graph(s) of ${(manifest.dtypes ?? [manifest.dtype]).join(' and ')}, ${inputs} inputs fed by ${tensors} tensors, ${manifest.weights.bytes} bytes of weights`,
  )
  if (otherForms.length > 0) {
    note(
      `Left out as other forms of the same graphs: ${otherForms.join(', ')}; to prepare one, put it into a folder of its own and give --subfolder`,
    )
  }
  if (unmatched.length > 0) {
    note(
      `${unmatched.length} weights stay in the graph, out of reach of experts: folded by the exporter, or not in the checkpoint (${someOf(unmatched, 5)})`,
    )
  }
  if (quantized.length > 0) {
    const remedy = values.quantized === 'keep' ? 'prepare with --quantized float' : 'prepare fp32, fp16 or q4'
    note(
      `${quantized.length} weights stay quantized, out of reach of merged experts (${someOf(quantized, 3)}); ${remedy} to merge into them`,
    )
  }
}

function dtypeList(text: string): ModelDtype[] {
  const dtypes = text.split(',')
  if (dtypes.every(isModelDtype)) return dtypes
  throw new UsageError(
    `Cannot prepare: expected --dtype ${Object.keys(DTYPE_SUFFIX).join(', ')}, found ${text}; to prepare another file, put it into a folder of its own and give --subfolder`,
  )
}

function partBytes(text: string): number {
  const megabytes = number(text, '--part')
  if (megabytes >= 1) return Math.floor(megabytes * 1e6)
  throw new UsageError(`Cannot use --part ${text}: expected at least 1 MB`)
}
