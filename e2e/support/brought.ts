/**
 * What a visitor may bring, made from a base and one of its experts: a fine-tuning, and an adapter.
 *
 * @module
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { compressCheckpoint } from '../../src/compress/index.ts'
import { readHead } from '../../src/format/index.ts'
import { ReferenceWeights } from '../../src/reference/index.ts'
import { memorySource } from '../../src/source/memory.ts'
import { safetensors, type Values } from '../../tests/compress/checkpoints.ts'
import { Random } from '../../tests/gpu/random.ts'

const PUBLIC = join(import.meta.dirname, '../../public')
const fileOf = (path: string) => memorySource(readFileSync(path) as Uint8Array, path)
/** The bundled ones. */
const BUNDLED = {
  weights: join(PUBLIC, 'models/demo/weights.trit'),
  expert: join(PUBLIC, 'experts/css.trit'),
}

export interface BroughtFiles {
  /** safetensors of the base. */
  base: string
  /** safetensors of a fine-tuning in f32, whose embedding was rounded on the way. */
  finetuned: string
  /** The payload of what compressing it at this density must give. */
  payload: (density: number) => Promise<Uint8Array>
  /** safetensors of a model of the same shapes that was trained from other weights. */
  stranger: string
  /** Folder of a LoRA adapter as peft writes it, with a text. */
  lora: string
  /** That text. */
  text: string
  /** The same folder, said to be of X-LoRA. */
  routed: string
}

/**
 * Writes them below a folder.
 * @param from - the `.trit` files of the base and of its expert
 */
export async function writeBrought(folder: string, from = BUNDLED): Promise<BroughtFiles> {
  const base = await ReferenceWeights.open(fileOf(from.weights))
  const changed = await base.patched(fileOf(from.expert))
  const values = (value: (name: string, own: Float32Array) => ArrayLike<number>, dtype: 'F32' | 'F16') => {
    const tensors: Record<string, Values> = {}
    for (const [name, own] of base.tensors)
      tensors[name] = { shape: base.shapeOf(name), values: value(name, own), dtype }
    return safetensors(tensors)
  }
  const exact = values((name, own) => changed.get(name) ?? own, 'F32')
  // Half of an f16 ulp is 2⁻¹²; what was not trained comes back as it was.
  const rounded = values(
    (name, own) => changed.get(name) ?? own.map((value) => value * (1 + 2 ** -14)),
    'F32',
  )
  const original = values((_, own) => own, 'F16')
  const random = new Random(7)
  const stranger = values(
    (_, own) => own.map((value, i) => own[(i * 7919 + 13) % own.length] ?? value),
    'F16',
  )

  const write = (path: string, bytes: Uint8Array | object) => {
    const file = join(folder, path)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, bytes instanceof Uint8Array ? bytes : JSON.stringify(bytes))
    return file
  }
  const factors: Record<string, Values> = {}
  const normal = (count: number, size: number) =>
    Float32Array.from({ length: count }, () => size * (random.unit() - 0.5))
  for (const target of changed.keys()) {
    const [out, into] = base.shapeOf(target)
    if (into === undefined || !/q_proj|v_proj/.test(target)) continue
    const module = `base_model.model.${target.replace(/\.weight$/, '')}`
    factors[`${module}.lora_A.weight`] = { shape: [4, into], values: normal(4 * into, 0.2) }
    factors[`${module}.lora_B.weight`] = { shape: [out!, 4], values: normal(4 * out!, 0.2) }
  }
  const config = { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj', 'v_proj'] }
  for (const name of ['my-lora', 'my-xlora']) {
    write(`${name}/adapter_config.json`, {
      ...config,
      ...(name === 'my-xlora' && { peft_type: 'XLORA' }),
    })
    write(`${name}/adapter_model.safetensors`, safetensors(factors))
  }
  // One window of the measurement: a second one would be of another length, with kernels of its own.
  const text = write('my-lora/sample.txt', readFileSync(join(PUBLIC, 'texts/css.txt')).subarray(0, 160))
  return {
    base: write('base/model.safetensors', original),
    finetuned: write('finetuned/my-style.safetensors', rounded),
    stranger: write('stranger/other.safetensors', stranger),
    lora: join(folder, 'my-lora'),
    text,
    routed: join(folder, 'my-xlora'),
    payload: async (density) => {
      const { file } = await compressCheckpoint({
        base: memorySource(original, 'base'),
        finetuned: memorySource(exact, 'finetuned'),
        options: { density },
      })
      return payloadOf(file)
    },
  }
}

/** A `.trit` file without its head, which says when and from what it was made. */
export async function payloadOf(file: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const { headBytes } = await readHead(memorySource(file, 'expert'))
  return file.subarray(headBytes)
}
