import { parseArgs } from 'node:util'
import { DTYPE_SUFFIX, isModelDtype } from '../format/dtype.ts'
import type { Storage } from '../onnx/index.ts'
import { UsageError } from './command.ts'
import { number } from './inputs.ts'
import { prepareModel } from './prepare_model.ts'
import { note, print } from './print.ts'

export const help = `
tritswap prepare <model folder> --out <dir>

Takes the weights that an expert may change out of a model's ONNX graphs, so that they can live in GPU buffers of
our own. Writes the graphs, one weights file and tritswap.json, beside copies of the model's configuration and
tokenizer: a folder that transformers.js and tritswap load.

  --checkpoint <file|dir>  safetensors that the graphs were exported from, for names and fingerprint
                           (default: beside the graphs, if there; "none" to go by names alone)
  --dtype <dtype,…>        fp32, fp16, q4, q4f16, q8, int8, uint8 or bnb4 (default: fp32, else fp16); of several, as
                           fp32,fp16, all graphs are fed by the same weights, and the first is the default
  --weights <model.gguf>   take the weights from a GGUF of the same Llama or Qwen model, in its own blocks (Q4_0, Q4_1, Q8_0,
                           F16, BF16, F32), not from the graphs
  --part <MB>              cut the weights file into parts of at most so many megabytes
  --subfolder <name>       folder of the graphs in the model folder (default: onnx)
  --targets <glob>         only tensors of these checkpoint names; may be given several times
  --quantized <float|keep> what becomes of 4-bit weights in VRAM (default float: dequantized there, so that experts can
                           be merged into them; keep: as small as they are, for experts beside them); either way
                           they travel as 4 bits
  --storage <auto|f16|f32> how weights are stored (default auto: quantized ones as they are, others in f16 where that
                           loses nothing)
`

export async function run(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      out: { type: 'string' },
      checkpoint: { type: 'string' },
      dtype: { type: 'string' },
      weights: { type: 'string' },
      part: { type: 'string' },
      subfolder: { type: 'string' },
      targets: { type: 'string', multiple: true },
      quantized: { type: 'string', default: 'float' },
      storage: { type: 'string', default: 'auto' },
    },
  })
  if (positionals.length !== 1 || values.out === undefined) {
    throw new UsageError('Cannot prepare: expected one model folder and --out <dir>')
  }
  const dtypes = values.dtype?.split(',') ?? []
  if (!dtypes.every(isModelDtype)) {
    throw new UsageError(
      `Cannot prepare: expected --dtype ${Object.keys(DTYPE_SUFFIX).join(', ')}, found ${values.dtype}; to prepare another file, put it into a folder of its own and give --subfolder`,
    )
  }
  if (!['auto', 'f16', 'f32'].includes(values.storage)) {
    throw new UsageError(`Cannot prepare: expected --storage auto, f16 or f32, found ${values.storage}`)
  }
  if (values.quantized !== 'float' && values.quantized !== 'keep') {
    throw new UsageError(`Cannot prepare: expected --quantized float or keep, found ${values.quantized}`)
  }
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
  const part = number(values.part, '--part')
  if (part !== undefined && part < 1)
    throw new UsageError(`Cannot use --part ${values.part}: expected at least 1 MB`)
  const [dtype, ...otherDtypes] = dtypes
  const result = await prepareModel(positionals[0], values.out, {
    checkpoint: values.checkpoint,
    weights: values.weights,
    dtype,
    otherDtypes,
    partBytes: part === undefined ? undefined : Math.floor(part * 1e6),
    subfolder: values.subfolder,
    targets: values.targets,
    quantized: values.quantized,
    storage: values.storage as Storage,
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
      `${unmatched.length} weights stay in the graph, out of reach of experts: folded by the exporter, or not in the checkpoint (${unmatched.slice(0, 5).join(', ')})`,
    )
  }
  if (quantized.length > 0) {
    const remedy = values.quantized === 'keep' ? 'prepare with --quantized float' : 'prepare fp32, fp16 or q4'
    note(
      `${quantized.length} weights stay quantized, out of reach of merged experts (${quantized.slice(0, 3).join(', ')}); ${remedy} to merge into them`,
    )
  }
  return 0
}
