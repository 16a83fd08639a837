import { ONNX_TYPE } from '../../format/dtype.ts'
import type { GraphProto, ValueInfoProto } from '../proto/onnx_pb.ts'
import type { FoundSite } from './site.ts'

/** The input that takes what a layer has kept, and the output that adds what the new tokens leave. */
const INPUT = /^past_key_values\.(\d+\.(?:key|value))$/
const OUTPUT = 'present.'

/** What the layers of a decoder keep: [batch, heads, tokens, size of a head] in floats, of a number of heads that the graph says. */
export function cacheSites(main: GraphProto): FoundSite[] {
  return main.input.flatMap((input): FoundSite[] => {
    const part = INPUT.exec(input.name)?.[1]
    const sizes = sizesOf(input)
    const output = `${OUTPUT}${part}`
    const maker = main.node.find((node) => node.output.includes(output))
    if (part === undefined || sizes === undefined || maker === undefined) return []
    const { heads, size, dtype } = sizes
    const { name } = input
    const occurrence = { graph: main, readers: [], input: name, output, maker, node: maker, views: [] }
    return [
      {
        key: output,
        weight: name,
        kind: 'cache',
        dtype,
        inputs: heads,
        outputs: size,
        quantized: false,
        parts: [{ target: name, rows: heads, cols: size, firstOutput: 0, transposed: false }],
        readsPrompt: false,
        moduleNames: [],
        bias: [],
        hasFixedBias: false,
        occurrences: [occurrence],
      },
    ]
  })
}

function sizesOf({
  type,
}: ValueInfoProto): { heads: number; size: number; dtype: FoundSite['dtype'] } | undefined {
  if (type?.value.case !== 'tensorType') return undefined
  const { elemType, shape } = type.value.value
  const dtype = (['float32', 'float16'] as const).find((name) => ONNX_TYPE[name] === elemType)
  const sizes = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : 0)) ?? []
  const [, heads, , size] = sizes
  return dtype !== undefined && sizes.length === 4 && heads > 0 && size > 0
    ? { heads, size, dtype }
    : undefined
}
