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
 * The graphs that make up one model in one dtype, out of the files of its `onnx` folder. Where a merged decoder is
 * there, transformers.js does not load the two that it was merged from.
 * @throws {TritswapError} `input` naming the dtypes that are there
 */
export function graphFiles(files: readonly string[], dtype: ModelDtype): string[] {
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
  const merged = chosen.some(({ module }) => module === 'decoder_model_merged')
  return chosen
    .filter(({ module }) => !merged || !/^decoder(_with_past)?_model$|^decoder_with_past_model$/.test(module))
    .map(({ file }) => file)
    .sort()
}
