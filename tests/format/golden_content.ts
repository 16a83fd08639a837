import {
  decodeTernary,
  decodeValues,
  encodeDense,
  encodeTernary,
  memorySpool,
  type NewTensorWithoutBytes,
  readHead,
  readSection,
  sketchOf,
  type TernaryEntries,
  TritWriter,
  targetsOf,
  ternarySection,
  toHex,
  weightsOf,
} from '../../src/format/index.ts'
import type { ByteSource } from '../../src/source/source.ts'
import { randomEntries, randomFrom, sorted } from './samples.ts'

/** What a golden tensor holds beside its name and shape; the target is the name unless given. */
type Golden = Partial<NewTensorWithoutBytes> & { name: string; shape: number[] } & (
    | { density: number; scale: number }
    | { entries: TernaryEntries; scale: number }
    | { dtype: 'f16' | 'f32' }
  )

const module = (path: string) => ({ target: `${path}.weight`, layout: 'linear' }) as const

/** One of everything that the format can hold. */
const TENSORS: Golden[] = [
  {
    name: 'tiny.weight',
    shape: [3, 5],
    scale: 0.25,
    entries: { indices: Uint32Array.of(2, 3, 10, 11), negative: Uint8Array.of(0, 1, 1, 0) },
  },
  { name: 'matrix.weight', shape: [130, 70], density: 0.05, scale: 0.0123 },
  { name: 'dense.weight', shape: [64, 64], density: 0.6, scale: 1e-3 },
  { name: 'everything.weight', shape: [9, 4], density: 1, scale: 2 },
  { name: 'nothing.weight', shape: [100, 100], density: 0, scale: 0 },
  { name: 'wide.weight', shape: [3, 3000], density: 0.01, scale: 0.5 },
  { name: 'tall.weight', shape: [3000, 3], density: 0.02, scale: 0.5 },
  { name: 'vector.bias', shape: [5000], density: 0.1, scale: 3.4e38 },
  { name: 'conv.weight', shape: [8, 4, 3, 3], density: 0.2, scale: 1e-40 },
  { name: 'scalar', shape: [], dtype: 'f32' },
  { name: 'norm.weight', shape: [7], dtype: 'f16' },
  { name: 'norm.bias', shape: [6], dtype: 'f32' },
  {
    name: 'q_proj.lora_A.weight',
    shape: [4, 40],
    role: 'loraA',
    ...module('q_proj'),
    density: 0.3,
    scale: 0.02,
  },
  {
    name: 'q_proj.lora_B.weight',
    shape: [24, 4],
    role: 'loraB',
    ...module('q_proj'),
    scaling: 0.5,
    density: 0.3,
    scale: 0.01,
  },
  {
    name: 'down_proj.ia3_l',
    shape: [1, 96],
    role: 'ia3',
    ...module('down_proj'),
    feedforward: true,
    density: 0.4,
    scale: 0.07,
  },
]

/** The golden file, written by today's writer. */
export async function buildGolden(): Promise<Uint8Array<ArrayBuffer>> {
  const spool = memorySpool()
  const writer = new TritWriter(spool)
  const tensors = TENSORS.map((tensor) => ({ role: 'delta' as const, target: tensor.name, ...tensor }))
  for (const [i, golden] of tensors.entries()) {
    const { name, shape, role, target, scaling, layout, feedforward } = golden
    const common = { name, shape, role, target, scaling, layout, feedforward }
    const weights = weightsOf(shape)
    if ('dtype' in golden && golden.dtype !== undefined) {
      const random = randomFrom(i + 100)
      const values = Float32Array.from({ length: weights }, () => random() - 0.5)
      await writer.add({ ...common, codec: 'dense', dtype: golden.dtype }, encodeDense(values, golden.dtype))
    } else if ('scale' in golden) {
      const entries = 'entries' in golden ? golden.entries : randomEntries(weights, golden.density, i + 1)
      const { words, ...code } = encodeTernary(shape, entries)
      await writer.add({ ...common, codec: 'ternary', scale: golden.scale, ...code }, words)
    }
  }
  const head = await writer.finish({
    kind: 'expert',
    method: 'lora',
    base: {
      name: 'golden-base',
      fingerprint: '0123456789abcdef'.repeat(4),
      sketch: goldenSketch(targetsOf(tensors)),
    },
    compression: { density: 0.05, alpha: 4, scale: 'std', threshold: 'global', score: 'magnitude' },
    sources: [{ name: 'model.safetensors', sha256: 'ab'.repeat(32) }, { name: 'adapter_config.json' }],
    label: 'Golden',
    description: 'One of everything — also “text” beyond ASCII: ternär',
    prompt: 'It was a golden',
    licence: 'Apache-2.0',
    createdWith: 'tritswap 1',
  })
  return spool.join(head)
}

function goldenSketch(targets: string[]): Uint16Array {
  const random = randomFrom(42)
  return Uint16Array.from(
    targets.flatMap((target) => [
      ...sketchOf(
        target,
        Float32Array.from({ length: 50 }, () => random() - 0.5),
      ),
    ]),
  )
}

/** All that a file says, as JSON. Entries of ternary tensors are in order of index; signs are + and −. */
export async function contentOf(source: ByteSource): Promise<unknown> {
  const head = await readHead(source)
  const { tensors, base, ...table } = head.table
  return JSON.parse(
    JSON.stringify({
      rootHash: head.rootHash,
      chunkHashes: Array.from({ length: head.chunks }, (_, i) =>
        toHex(head.chunkHashes.subarray(32 * i, 32 * i + 32)),
      ),
      ...table,
      base: { ...base, sketch: base.sketch && [...base.sketch] },
      tensors: await Promise.all(
        tensors.map(async (tensor) => {
          const section = await readSection(source, head, tensor)
          if (tensor.codec !== 'ternary') return { ...tensor, values: [...decodeValues(tensor, section)] }
          const { indices, negative } = sorted(decodeTernary(tensor.shape, ternarySection(tensor, section)))
          return { ...tensor, indices, signs: negative.map((bit) => (bit === 1 ? '-' : '+')).join('') }
        }),
      ),
    }),
  )
}
