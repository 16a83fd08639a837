/**
 * What an expert cannot do on quantized weights, from what the files say: everything else that fails is a fault.
 *
 * @module
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ModelDtype } from '../../src/format/dtype.ts'
import { readHead, type TritTable, targetsOf } from '../../src/format/index.ts'
import { graphFiles } from '../../src/onnx/graph/graph_files.ts'
import { indexGraph } from '../../src/onnx/graph/graph_index.ts'
import { parseModel } from '../../src/onnx/proto/model.ts'
import { type GraphProto, TensorProto_DataType } from '../../src/onnx/proto/onnx_pb.ts'
import { matchName, moduleOfNode, parameterOfInitializer } from '../../src/onnx/resolve/names.ts'
import { memorySource } from '../../src/source/memory.ts'
import type { JobExpert } from './protocol.ts'

const INTEGERS: ReadonlySet<number> = new Set([TensorProto_DataType.INT8, TensorProto_DataType.UINT8])
/** These are within reach of a merge once they are dequantized. */
const BLOCKS = new Set(['MatMulNBits', 'GatherBlockQuantized'])

/** Modules of a model in one dtype whose weights an operator takes as integers. */
export function integerModules(folder: string, dtype: string): Set<string> {
  const modules = new Set<string>()
  for (const file of graphFiles(readdirSync(folder), dtype as ModelDtype).graphs) {
    const { graph } = parseModel(new Uint8Array(readFileSync(join(folder, file))), file)
    for (const { tensor, readers: all } of indexGraph(graph as GraphProto).initializers) {
      if (!INTEGERS.has(tensor.dataType) || tensor.dims.length < 2) continue
      const readers = all.filter(({ node }) => !BLOCKS.has(node.opType))
      // A shared embedding is called by its own name, and by none of its readers'.
      const own = parameterOfInitializer(tensor.name.replace(/_quantized\b/, ''))?.name
      const names = [own?.replace(/\.weight$/, ''), ...readers.map(({ node }) => moduleOfNode(node))]
      for (const module of readers.length > 0 ? names : []) if (module !== undefined) modules.add(module)
    }
  }
  return modules
}

/** The table of a `.trit` file. */
export async function readTable(path: string): Promise<TritTable> {
  return (await readHead(memorySource(readFileSync(path), path))).table
}

/**
 * @param replaces - modules that the adapter has whole
 * @param base - of the prepared base
 */
export function limitsOf(
  expert: TritTable,
  replaces: readonly string[],
  base: TritTable,
  modules: ReadonlySet<string>,
): Pick<JobExpert, 'integers' | 'unquantized' | 'absent' | 'onFloats'> {
  const targets = targetsOf(base.tensors)
  const isIn = (target: string, module: string) => `.${target}`.endsWith(`.${module}.weight`)
  const integers = targetsOf(expert.tensors).filter(
    (target) => !targets.includes(target) && [...modules].some((module) => isIn(target, module)),
  )
  const unquantized = replaces.filter((module) =>
    base.tensors.some(({ codec, target }) => codec === 'blocks' && isIn(target, module)),
  )
  const blocks = base.tensors.filter(({ codec }) => codec === 'blocks').map(({ target }) => target)
  // With or without the name of the whole model before it.
  const isSame = (a: string, b: string) => `.${a}`.endsWith(`.${b}`) || `.${b}`.endsWith(`.${a}`)
  const onFloats =
    integers.length === 0 &&
    !targetsOf(expert.tensors).some((target) => blocks.some((block) => isSame(target, block)))
  const absent = targetsOf(expert.tensors).filter(
    (target) => matchName(target, targets) === undefined && !integers.includes(target),
  )
  return { integers, unquantized, absent, onFloats }
}
