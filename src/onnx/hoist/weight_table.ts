import { type NBitsComponent, nbitsLayout } from '../../format/codecs/nbits_decode.ts'
import { FLOAT_BYTES, FLOAT_DTYPE_OF, type FloatInputDtype } from '../../format/dtype.ts'
import { type TritTable, type TritTensor, weightsOf } from '../../format/index.ts'
import type { ByteSource } from '../../source/source.ts'
import { bindingsOf, type HoistedModel } from './hoisted_model.ts'
import type { TensorRows } from './tensor_rows.ts'

/** The table of a `.trit` file of kind `base` with this model's weights, had it been written. */
export function weightTable(model: HoistedModel, base: TritTable['base'] = {}): TritTable {
  let offset = 0
  const tensors = Array.from(model.tensors, ([name, { shape, target, home, quantized }]): TritTensor => {
    const common = { name, shape, role: 'delta' as const, target }
    const dtype = FLOAT_DTYPE_OF[home.data.dtype as FloatInputDtype]
    const bytes =
      quantized === undefined
        ? Math.ceil((weightsOf(shape) * FLOAT_BYTES[dtype]) / 4) * 4
        : nbitsLayout(shape, quantized.code).bytes
    const codec = quantized === undefined ? { codec: 'dense', dtype } : { codec: 'blocks', ...quantized.code }
    const tensor = { ...common, ...codec, bytes, offset } as TritTensor
    offset += bytes
    return tensor
  })
  return {
    kind: 'base',
    method: 'full',
    tensors,
    base,
    compression: {},
    sources: [],
    bindings: bindingsOf(model),
  }
}

/** A component of a quantized tensor in the initializer that holds it. */
interface ComponentSlice {
  component: NBitsComponent
  source: ByteSource
  offset: number
  bytes: number
  /** In the tensor's section. */
  at: number
}

/** The components of a quantized tensor, in the order of its section. */
export function componentSlices(
  shape: readonly number[],
  { code, matrix, firstRow }: TensorRows,
): ComponentSlice[] {
  return Object.entries(nbitsLayout(shape, code).components).map(([name, layout]) => {
    const component = name as NBitsComponent
    const { source, offset } = matrix.components[component]!
    const first = firstRow * layout.rowLength * layout.elementBytes
    return { component, source, offset: offset + first, bytes: layout.bytes, at: layout.offset }
  })
}
