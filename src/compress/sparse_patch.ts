/**
 * Patches of weights as TRL's `AsyncGRPO` writes them for an inference server (`sparse_weight_patch` 1): of each parameter the
 * places that changed, `<name>.idx`, and the new values there, `<name>.val`. Read as a checkpoint, over the base that they patch.
 *
 * @module
 */
import { TritswapError } from '../errors.ts'
import { SAFETENSORS_BYTES } from '../format/dtype.ts'
import { bitsFromUnit, unitFromBits } from '../format/steps.ts'
import { shortSource } from '../source/memory.ts'
import type { Checkpoint } from './checkpoint.ts'
import { readBytes, readFloats, type StoredTensor } from './safetensors.ts'

const FORMAT = 'sparse_weight_patch'
const INDICES = '.idx'
const VALUES = '.val'

/** Dtypes of places, and how they are read: absolute ones, or gaps of which each is one less than the distance. */
const ENCODINGS: Readonly<Record<string, readonly string[]>> = { raw: ['I32'], gap_delta: ['U16', 'U32'] }

/** Whether a checkpoint is a patch with places and values; one with whole tensors (an anchor) is a checkpoint like others. */
export function isSparsePatch({ metadata }: Checkpoint): boolean {
  return metadata.format === FORMAT && metadata.sparse === 'True'
}

/**
 * The tensors that a patch changes, as they are after it, in the base's dtype.
 * @throws {TritswapError} `unsupported` for another version or encoding; `input` for a parameter that the base lacks, parts that
 * are missing, and places out of order or range
 */
export function patchedCheckpoint(base: Checkpoint, patch: Checkpoint): Checkpoint {
  const { version, encoding = 'gap_delta' } = patch.metadata
  if (version !== '1' || !Object.hasOwn(ENCODINGS, encoding)) {
    throw new TritswapError(
      'unsupported',
      `Cannot read the patch ${patch.name}: expected version 1 with indices as ${Object.keys(ENCODINGS).join(' or ')}, found version ${version} with ${encoding}; write it with delta_sync_encoding="gap_delta"`,
      { fields: { name: patch.name, version, encoding } },
    )
  }
  const tensors = new Map<string, StoredTensor>()
  for (const part of patch.tensors.values()) {
    if (part.name.endsWith(INDICES)) continue
    const name = part.name.endsWith(VALUES) ? part.name.slice(0, -VALUES.length) : undefined
    const indices = name === undefined ? undefined : patch.tensors.get(name + INDICES)
    if (name === undefined || indices === undefined)
      throw wrong(part.name, `expected <parameter>${INDICES} and <parameter>${VALUES} in ${patch.name}`)
    const own = base.tensors.get(name)
    if (own === undefined)
      throw wrong(
        name,
        `${patch.name} changes it and ${base.name} has no such tensor; give the base that it patches`,
      )
    if (!ENCODINGS[encoding].includes(indices.dtype))
      throw wrong(
        indices.name,
        `expected ${ENCODINGS[encoding].join(' or ')} for ${encoding}, found ${indices.dtype}`,
      )
    // Both are one-dimensional, or gaps of another encoding would have passed for places.
    if (indices.shape.length !== 1 || part.shape.join() !== indices.shape.join())
      throw wrong(part.name, `expected as many values as indices, [${indices.shape}], found [${part.shape}]`)
    tensors.set(name, patchedTensor(own, indices, part, encoding))
  }
  return { ...patch, tensors }
}

/** A patched run of the base's bytes. */
function patchedTensor(
  own: StoredTensor,
  indices: StoredTensor,
  values: StoredTensor,
  encoding: string,
): StoredTensor {
  const size = SAFETENSORS_BYTES[own.dtype]
  let read: Promise<{ places: Uint32Array; bytes: Uint8Array }> | undefined
  const parts = () => {
    read ??= Promise.all([placesOf(indices, encoding, own.weights), valuesFor(own, values)]).then(
      ([places, bytes]) => ({ places, bytes }),
    )
    return read
  }
  return {
    ...own,
    offset: 0,
    source: {
      name: values.source.name,
      size: async () => own.bytes,
      async read(offset, length, options) {
        if (offset + length > own.bytes) throw shortSource(own.name, offset, length, own.bytes)
        const from = Math.floor(offset / size)
        const to = Math.ceil((offset + length) / size)
        const whole = await readBytes(own, from, to - from, options)
        const { places, bytes } = await parts()
        for (let i = firstAtLeast(places, from); i < places.length && places[i] < to; i++)
          whole.set(bytes.subarray(i * size, (i + 1) * size), (places[i] - from) * size)
        return whole.slice(offset - from * size, offset - from * size + length)
      },
    },
  }
}

/** First position of an ascending list whose value is at least `least`. */
function firstAtLeast(sorted: Uint32Array, least: number): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle] < least) low = middle + 1
    else high = middle
  }
  return low
}

async function placesOf(indices: StoredTensor, encoding: string, weights: number): Promise<Uint32Array> {
  const bytes = await readBytes(indices)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const isGap = encoding === 'gap_delta'
  const size = SAFETENSORS_BYTES[indices.dtype]
  const places = new Uint32Array(indices.weights)
  for (let i = 0, last = -1; i < places.length; i++) {
    const stored = size === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true)
    const place = isGap ? last + 1 + stored : stored
    if (place <= last || place >= weights)
      throw wrong(indices.name, `expected ascending places below ${weights}, found ${place} after ${last}`)
    places[i] = place
    last = place
  }
  return places
}

/** The values in the base's dtype. @throws {TritswapError} `input` for values that it does not have */
async function valuesFor(own: StoredTensor, values: StoredTensor): Promise<Uint8Array> {
  if (own.dtype === values.dtype) return readBytes(values)
  const floats = await readFloats(values)
  if (own.dtype === 'F32') return new Uint8Array(floats.buffer)
  const unit = own.dtype === 'F16' ? 'f16' : 'bf16'
  const bits = new Uint32Array(floats.buffer)
  const patterns = new Uint16Array(bits.length)
  for (const [i, own32] of bits.entries()) {
    patterns[i] = unitFromBits(own32, unit)
    const back = bitsFromUnit(patterns[i], unit)
    if (back !== own32)
      throw wrong(
        values.name,
        `${floats[i]} of ${values.dtype} is no value of ${own.dtype}, which the base is in; give the base in ${values.dtype} or F32`,
      )
  }
  return new Uint8Array(patterns.buffer)
}

function wrong(tensor: string, why: string): TritswapError {
  return new TritswapError('input', `Cannot patch ${tensor}: ${why}`, { fields: { tensor } })
}
