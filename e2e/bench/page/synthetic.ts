import {
  encodeTernary,
  memorySpool,
  parseHead,
  type TritTable,
  TritWriter,
} from '../../../src/format/index.ts'
import { type ExpertStore, type Gpu, type ResidentExpert, WeightStore } from '../../../src/gpu/index.ts'

/** Columns of every matrix; a matrix of `MATRIX_WEIGHTS` has 1024 rows. */
const COLS = 4096
const MATRIX_WEIGHTS = 2 ** 22

function shapes(weights: number): { name: string; shape: [number, number] }[] {
  const matrices = Math.ceil(weights / MATRIX_WEIGHTS)
  const rows = Math.max(1, Math.round(weights / matrices / COLS))
  return Array.from({ length: matrices }, (_, i) => ({ name: `w${i}`, shape: [rows, COLS] }))
}

/** A base of matrices that lie transposed, as ONNX has them. Its weights are zeros: no kernel looks at them. */
export function syntheticBase(gpu: Gpu, weights: number): Promise<WeightStore> {
  let offset = 0
  const tensors = shapes(weights).map(({ name, shape }) => {
    const bytes = 2 * shape[0] * shape[1]
    offset += bytes
    const place = { name, shape, role: 'delta', target: name, offset: offset - bytes, bytes } as const
    return { ...place, codec: 'dense', dtype: 'f16' } as const
  })
  const table: TritTable = {
    kind: 'base',
    method: 'full',
    tensors,
    base: {},
    compression: {},
    sources: [],
  }
  const inputs = tensors.map(({ name, shape: [rows, cols] }) => ({
    name,
    dtype: 'float32' as const,
    dims: [cols, rows],
    parts: [{ tensor: name, offset: 0, rowStride: 1, colStride: rows }],
  }))
  return WeightStore.create({ gpu, inputs, table })
}

/** An expert for such a base with its entries spread evenly at random. */
export async function syntheticExpert(
  experts: ExpertStore,
  weights: number,
  density: number,
  seed: number,
): Promise<ResidentExpert> {
  const all = shapes(weights)
  const [{ shape }] = all
  // One stream for all matrices: what is in it makes no difference to the next one.
  const { kept, m, lengthMin, lengthBits, words } = encodeTernary(
    shape,
    randomEntries(shape[0] * COLS, density, seed),
  )
  const spool = memorySpool()
  const writer = new TritWriter(spool, { chunkLog2: 20 })
  const code = { codec: 'ternary', kept, scale: 2 ** -8, m, lengthMin, lengthBits } as const
  for (const { name } of all) await writer.add({ name, shape, role: 'delta', target: name, ...code }, words)
  const label = `seed ${seed}`
  const table = { kind: 'expert', method: 'full', base: {}, compression: {}, sources: [], label } as const
  const file = spool.join(await writer.finish({ ...table, sources: [] }))
  const head = await parseHead(file, 'a synthetic expert')
  const upload = await experts.begin(head)
  await upload.write(0, file.subarray(head.headBytes))
  return upload.finish()
}

/** About `density` of the indices below `weights`, each with a sign: xorshift32. */
function randomEntries(weights: number, density: number, seed: number) {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  const indices = new Uint32Array(weights)
  const negative = new Uint8Array(weights)
  const below = density * 2 ** 32
  let count = 0
  for (let i = 0; i < weights; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    if (state >>> 0 >= below) continue
    indices[count] = i
    negative[count++] = Math.imul(state, 0x2545f491) >>> 31
  }
  return { indices: indices.slice(0, count), negative: negative.slice(0, count) }
}
