import { TritswapError } from '../errors.ts'
import { DTYPE_SUFFIX, isModelDtype } from '../format/dtype.ts'

/** Where transformers.js looks for graphs. */
export const GRAPH_FOLDER = 'onnx'
/** Path of a graph in its folder, as transformers.js builds it. @throws {TritswapError} `input` for an unknown dtype */
export function graphPath(module: string, dtype: string, subfolder = GRAPH_FOLDER): string {
  if (!isModelDtype(dtype)) {
    throw new TritswapError(
      'input',
      `Cannot find graphs of dtype ${dtype}: expected one of ${Object.keys(DTYPE_SUFFIX).join(', ')}`,
      { fields: { dtype } },
    )
  }
  const file = `${module}${DTYPE_SUFFIX[dtype]}.onnx`
  return subfolder === '' ? file : `${subfolder}/${file}`
}
