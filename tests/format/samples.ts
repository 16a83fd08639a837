import { isTritswapError } from '../../src/errors.ts'
import {
  decodeTernary,
  encodeTernary,
  memorySpool,
  type TernaryEntries,
  type TritTable,
  TritWriter,
  weightsOf,
} from '../../src/format/index.ts'

/** Numbers in [0, 1) from a seed (xorshift32): the same on every machine. */
export function randomFrom(seed: number): () => number {
  let state = seed | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** Entries kept with probability `density`. */
export function randomEntries(weights: number, density: number, seed: number): TernaryEntries {
  const random = randomFrom(seed)
  const kept: number[] = []
  for (let i = 0; i < weights; i++) if (random() < density) kept.push(i)
  return { indices: Uint32Array.from(kept), negative: Uint8Array.from(kept, () => (random() < 0.5 ? 1 : 0)) }
}

/** Entries in order of index, as plain lists. */
export function sorted({ indices, negative }: TernaryEntries): { indices: number[]; negative: number[] } {
  const order = Array.from(indices.keys()).sort((a, b) => indices[a] - indices[b])
  return { indices: order.map((i) => indices[i]), negative: order.map((i) => negative[i]) }
}

/** Encodes, decodes and puts in order. */
export function throughCodec(shape: readonly number[], entries: TernaryEntries) {
  return sorted(decodeTernary(shape, encodeTernary(shape, entries)))
}

/** A tensor of a sample file: values for `dense`, entries for `ternary`. */
export type SampleTensor = { name: string; shape: number[] } & (
  | { entries: TernaryEntries; scale: number }
  | { values: Float32Array<ArrayBuffer> }
)

/** Adds a delta tensor to a file in the making. */
export async function addSample(writer: TritWriter, sample: SampleTensor): Promise<void> {
  const common = { name: sample.name, shape: sample.shape, role: 'delta', target: sample.name } as const
  if ('values' in sample) {
    await writer.add({ ...common, codec: 'dense', dtype: 'f32' }, sample.values)
    return
  }
  const { words, ...code } = encodeTernary(sample.shape, sample.entries)
  await writer.add({ ...common, codec: 'ternary', scale: sample.scale, ...code }, words)
}

export const PLAIN_TABLE = {
  kind: 'expert',
  method: 'full',
  base: {},
  compression: {},
  sources: [],
} as const satisfies Omit<TritTable, 'tensors'>

/** A whole file in memory. */
export async function buildFile(
  samples: readonly SampleTensor[],
  table: Omit<TritTable, 'tensors'> = PLAIN_TABLE,
): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  for (const sample of samples) await addSample(writer, sample)
  return spool.join(await writer.finish(table))
}

/** A file with two ternary tensors and a dense one, a few hundred bytes long. */
export function smallFile(): Promise<Uint8Array<ArrayBuffer>> {
  const matrix = [70, 80]
  return buildFile(
    [
      {
        name: 'layers.0.weight',
        shape: matrix,
        entries: randomEntries(weightsOf(matrix), 0.05, 3),
        scale: 0.0125,
      },
      { name: 'layers.0.bias', shape: [3], values: Float32Array.of(0.5, -1, 2 ** -20) },
      { name: 'layers.1.weight', shape: [5, 7], entries: randomEntries(35, 0.3, 4), scale: 1 },
    ],
    { ...PLAIN_TABLE, label: 'Small', compression: { density: 0.05 } },
  )
}

/** The tag of the {@link TritswapError} that `run` throws or rejects with; `none` if it does neither. */
export async function tagThrownBy(run: () => unknown): Promise<string> {
  try {
    await run()
    return 'none'
  } catch (error) {
    if (!isTritswapError(error)) throw error
    return error.tag
  }
}
