/**
 * File names of a model folder as transformers.js expects them: `onnx/<module><suffix of dtype>.onnx`.
 *
 * @module
 */
import { TritswapError } from '../../errors.ts'
import { DTYPE_SUFFIX, type ModelDtype } from '../../format/dtype.ts'

/** Module and dtype of a graph file: `decoder_model_merged_q4f16.onnx` → `decoder_model_merged`, `q4f16`. */
export function parseGraphFile(file: string): { module: string; dtype: ModelDtype } | undefined {
  const name = /^(.+)\.onnx$/.exec(file)?.[1]
  if (name === undefined) return undefined
  for (const [dtype, suffix] of Object.entries(DTYPE_SUFFIX) as [ModelDtype, string][]) {
    if (suffix !== '' && name.endsWith(suffix)) return { module: name.slice(0, -suffix.length), dtype }
  }
  return { module: name, dtype: 'fp32' }
}

/**
 * What optimum and other tools append to the name of a graph for other forms of it, which transformers.js loads by
 * their names alone: levels of optimization (`model_O2`), quantization for one processor (`model_qint8_avx512_vnni`),
 * and widths that are not dtypes of transformers.js (`model_q2`).
 */
const FORM = /_(O[1-4]|(optimized|q[1-8](f16)?|q?u?int(4|8|16))(_\w+)?|bf16|fp8)$/

/** The graphs of a model in one dtype. */
export interface ChosenGraphs {
  graphs: string[]
  /** Files with other forms of them, in the same dtype as far as transformers.js is concerned. */
  otherForms: string[]
}

/**
 * The graphs that make up one model in one dtype, out of the files of its `onnx` folder. Where a merged decoder is
 * there, transformers.js does not load the two that it was merged from.
 * @throws {TritswapError} `input` naming the dtypes that are there, or the forms of a graph that is there in several
 * and in none without a suffix
 */
export function graphFiles(files: readonly string[], dtype: ModelDtype): ChosenGraphs {
  const graphs = files.flatMap((file) => {
    const parsed = parseGraphFile(file)
    return parsed === undefined ? [] : [{ file, ...parsed }]
  })
  const chosen = graphs.filter((graph) => graph.dtype === dtype)
  if (chosen.length === 0) {
    const found = [...new Set(graphs.map((graph) => graph.dtype))]
    throw new TritswapError(
      'input',
      `Cannot find a graph of dtype ${dtype}: expected *${DTYPE_SUFFIX[dtype]}.onnx, found ${found.length === 0 ? 'no .onnx file' : found.join(', ')}`,
      { fields: { dtype, found } },
    )
  }
  const otherForms = chosen.filter(({ module }) => {
    const stem = module.replace(FORM, '')
    if (stem === module) return false
    if (chosen.some((other) => other.module === stem)) return true
    const forms = chosen.filter((other) => other.module.replace(FORM, '') === stem).map(({ file }) => file)
    if (forms.length === 1) return false
    throw new TritswapError(
      'input',
      `Cannot choose a graph: expected ${stem}${DTYPE_SUFFIX[dtype]}.onnx, found ${forms.join(', ')}; put the one that you mean into a folder of its own and give that as the subfolder`,
      { fields: { dtype, found: forms } },
    )
  })
  const merged = chosen.some(({ module }) => module === 'decoder_model_merged')
  const kept = chosen
    .filter((graph) => !otherForms.includes(graph))
    .filter(({ module }) => !merged || !/^decoder(_with_past)?_model$|^decoder_with_past_model$/.test(module))
  return { graphs: namesOf(kept), otherForms: namesOf(otherForms) }
}

function namesOf(graphs: readonly { file: string }[]): string[] {
  return graphs.map(({ file }) => file).sort()
}
