/**
 * Tensors that no file holds: they are formed from others when they are read, again and again if need be, so that the
 * changes of a whole model are never in memory together.
 *
 * @module
 */
import { weightsOf } from '../format/tiling.ts'
import { shortSource } from '../source/memory.ts'
import type { StoredTensor } from './safetensors.ts'

/** Bytes of formed tensors that are kept for the next pass over them; the one in use is, however large. */
const KEPT_BYTES = 2 ** 28

type Form = () => Promise<Float32Array<ArrayBuffer>>

interface Kept {
  values: Promise<Float32Array<ArrayBuffer>>
  bytes: number
}

/** Least recently read first. */
const kept = new Map<Form, Kept>()

/**
 * A tensor in f32 whose values `form` gives, as many as the shape says.
 * @param from - of the file that it is formed from, for messages
 */
export function formedTensor(name: string, shape: readonly number[], from: string, form: Form): StoredTensor {
  const weights = weightsOf(shape)
  const bytes = weights * 4
  return {
    name,
    dtype: 'F32',
    shape,
    weights,
    offset: 0,
    bytes,
    source: {
      name: from,
      size: async () => bytes,
      async read(offset, length) {
        const { buffer, byteOffset, byteLength } = await valuesOf(form, bytes)
        if (offset + length > byteLength) throw shortSource(from, offset, length, byteLength)
        return new Uint8Array(buffer, byteOffset + offset, length).slice()
      },
    },
  }
}

function valuesOf(form: Form, bytes: number): Promise<Float32Array<ArrayBuffer>> {
  const known = kept.get(form)
  kept.delete(form)
  const entry = known ?? { values: form(), bytes }
  kept.set(form, entry)
  if (known === undefined) {
    entry.values.catch(() => kept.delete(form))
    let all = 0
    for (const { bytes } of kept.values()) all += bytes
    for (const [other, { bytes }] of kept) {
      if (all <= KEPT_BYTES || other === form) break
      kept.delete(other)
      all -= bytes
    }
  }
  return entry.values
}
