import { TritswapError } from '../errors.ts'
import { SAFETENSORS_BYTES } from '../format/dtype.ts'
import { bitsFromHalf } from '../format/float16.ts'

/** The dtypes whose values {@link decodeFloats} reads. */
const READABLE = ['F32', 'F16', 'BF16', 'F64', 'I8']

function isReadable(dtype: string): boolean {
  return READABLE.includes(dtype)
}

/** True for weights; integers in a checkpoint are position tables, masks or signs. */
export function isFloat(dtype: string): boolean {
  return dtype !== 'I8' && isReadable(dtype)
}

/** Values of all 65,536 patterns of a two-byte float; a look-up is several times faster than the arithmetic. */
function tableOf(bitsOf: (half: number) => number): () => Float32Array {
  let table: Float32Array | undefined
  return () => {
    table ??= new Float32Array(Uint32Array.from({ length: 65_536 }, (_, half) => bitsOf(half)).buffer)
    return table
  }
}

const f16Values = tableOf(bitsFromHalf)
const bf16Values = tableOf((half) => half << 16)

/** Stored values: as they are, or as positions in a table. */
interface View {
  values: Float32Array | Float64Array | Int8Array | Uint16Array
  table?: Float32Array
}

function viewOf(bytes: Uint8Array<ArrayBuffer>, dtype: string, name: string): View {
  const size = SAFETENSORS_BYTES[dtype]
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  const count = byteLength / size
  switch (dtype) {
    case 'F32':
      return { values: new Float32Array(buffer, byteOffset, count) }
    case 'F16':
      return { values: new Uint16Array(buffer, byteOffset, count), table: f16Values() }
    case 'BF16':
      return { values: new Uint16Array(buffer, byteOffset, count), table: bf16Values() }
    case 'F64':
      return { values: new Float64Array(buffer, byteOffset, count) }
    case 'I8':
      return { values: new Int8Array(buffer, byteOffset, count) }
    default:
      throw new TritswapError(
        'unsupported',
        `Cannot read ${name}: expected weights in ${READABLE.join(', ')}, found ${dtype}; convert the checkpoint to one of them`,
        { fields: { tensor: name, dtype } },
      )
  }
}

/**
 * Writes little-endian values as f32, rounded to nearest where the dtype is wider.
 * @throws {TritswapError} `unsupported` for a dtype that holds no weights
 */
export function decodeFloats(
  bytes: Uint8Array<ArrayBuffer>,
  dtype: string,
  name: string,
  into: Float32Array,
): void {
  const { values, table } = viewOf(bytes, dtype, name)
  if (table === undefined) into.set(values)
  else for (let i = 0; i < values.length; i++) into[i] = table[values[i]]
}

/** Subtracts the same from what is there, in f32. */
export function subtractFloats(
  bytes: Uint8Array<ArrayBuffer>,
  dtype: string,
  name: string,
  from: Float32Array,
): void {
  const { values, table } = viewOf(bytes, dtype, name)
  if (table === undefined) for (let i = 0; i < values.length; i++) from[i] -= Math.fround(values[i])
  else for (let i = 0; i < values.length; i++) from[i] -= table[values[i]]
}
