/**
 * A base with an expert on it, as a checkpoint: of a lossless expert the fine-tuned one, bit for bit.
 *
 * @module
 */
import type { Checkpoint } from '../compress/checkpoint.ts'
import {
  readBytes,
  readFloats,
  type StoredTensor,
  safetensorsHead,
  type TensorToWrite,
} from '../compress/safetensors.ts'
import { verifyBase } from '../compress/verify.ts'
import { TritswapError } from '../errors.ts'
import { floatsToHalves } from '../format/float16.ts'
import type { TritHead } from '../format/head.ts'
import { unitFromBits } from '../format/steps.ts'
import { mergeChange, StreamedExpert } from '../reference/streamed_expert.ts'
import type { FileSource } from './file_source.ts'

/** Bytes that are copied at once. */
const PIECE = 2 ** 22

/**
 * Writes every tensor of the base, changed where the expert changes it and rounded once to the base's dtype.
 * @throws {TritswapError} `base` for another base than the expert was made for, `unsupported` for targets that are not floats
 */
export async function writeOnto(
  source: FileSource,
  head: TritHead,
  base: Checkpoint,
  write: (bytes: Uint8Array) => Promise<void>,
  onTensor: (done: number, total: number) => void,
): Promise<void> {
  await verifyBase(head, source.name, base)
  const expert = await StreamedExpert.open(source)
  const shapeOf = (name: string) => tensorOf(base, name, source.name).shape
  const change = mergeChange({ knows: (name) => base.tensors.has(name), shapeOf }, [{ expert, weight: 1 }])
  const tensors = [...base.tensors.values()]
  await write(
    safetensorsHead(tensors as readonly StoredTensor[] as readonly TensorToWrite[], { format: 'pt' }),
  )
  for (const [i, tensor] of tensors.entries()) {
    if (change.targets.has(tensor.name)) {
      const encode = encoderOf(tensor)
      await write(encode(await change.valuesOf(tensor.name, await readFloats(tensor))))
    } else {
      const bytes: StoredTensor = { ...tensor, dtype: 'U8', weights: tensor.bytes }
      for (let from = 0; from < tensor.bytes; from += PIECE)
        await write(await readBytes(bytes, from, Math.min(PIECE, tensor.bytes - from)))
    }
    onTensor(i + 1, tensors.length)
  }
}

function tensorOf(base: Checkpoint, name: string, expert: string): StoredTensor {
  const tensor = base.tensors.get(name)
  if (tensor !== undefined) return tensor
  throw new TritswapError(
    'mapping',
    `Cannot put ${expert} on ${base.name}: expected a tensor ${name}, found none; give the base that it was made for`,
    { fields: { tensor: name } },
  )
}

/** Floats as a dtype stores them. */
function encoderOf({ name, dtype }: StoredTensor): (values: Float32Array<ArrayBuffer>) => Uint8Array {
  if (dtype === 'F32') return bytesOf
  if (dtype === 'F16') return (values) => bytesOf(floatsToHalves(values))
  if (dtype === 'BF16') {
    return (values) => {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
      return bytesOf(Uint16Array.from(bits, (own) => unitFromBits(own, 'bf16')))
    }
  }
  throw new TritswapError(
    'unsupported',
    `Cannot write ${name}: expected weights in F32, F16 or BF16, found ${dtype}; give a base of floats`,
    { fields: { tensor: name, dtype } },
  )
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
