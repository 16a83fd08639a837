import type { Codec } from '../../src/format/codecs/codec.ts'
import { integer, invalid } from '../../src/format/fields.ts'
import type { CodedTensor } from '../../src/format/tensor.ts'
import { tilingOf, weightsOf } from '../../src/format/tiling.ts'
import type { NewTensorWithoutBytes } from '../../src/format/writer.ts'

/** A tensor as whole levels of a step that each row has: a codec that src knows nothing of. */
interface RowLevelsTensor extends CodedTensor {
  codec: 'row-levels'
  /** Largest level. */
  levels: number
}

/** A section has two parts: an f32 step for each row, then an int8 level for each weight, in whole words. */
export const rowLevels: Codec<RowLevelsTensor> = {
  name: 'row-levels',
  kinds: ['expert', 'base'],
  fieldsFrom: (entry, at) => ({ levels: integer(entry.levels, `${at}.levels`, 1, 127) }),
  fieldsToJson: ({ levels }) => ({ levels }),
  checkBytes({ name, shape, bytes }) {
    const expected = 4 * tilingOf(shape).rows + Math.ceil(weightsOf(shape) / 4) * 4
    if (bytes !== expected) throw invalid(`bytes of ${name}`, `${expected} bytes of levels`, bytes)
  },
  summary: ({ shape }) => ({ kept: weightsOf(shape), bits: 8 }),
  form: () => ({ kind: 'opaque' }),
  decode({ shape, levels }, section) {
    const { rows, cols } = tilingOf(shape)
    const steps = new DataView(section.buffer, section.byteOffset, 4 * rows)
    const found = new Int8Array(section.buffer, section.byteOffset + 4 * rows, rows * cols)
    return Float32Array.from(found, (level, i) => {
      if (Math.abs(level) > levels) throw invalid(`level ${i}`, `at most ${levels}`, level)
      return level * steps.getFloat32(4 * Math.floor(i / cols), true)
    })
  },
}

/** A delta in this codec, and the values that it holds. */
export function rowLevelsOf(name: string, shape: readonly number[], seed = 1) {
  const { rows, cols } = tilingOf(shape)
  const steps = Float32Array.from({ length: rows }, (_, row) => 2 ** -(8 + ((row + seed) % 4)))
  const levels = Int8Array.from({ length: rows * cols }, (_, i) => ((i * 37 + seed * 11) % 15) - 7)
  const section = new Uint8Array(4 * rows + levels.length)
  section.set(new Uint8Array(steps.buffer))
  section.set(new Uint8Array(levels.buffer), 4 * rows)
  const tensor = { name, target: name, shape, role: 'delta', codec: 'row-levels', levels: 7 }
  return {
    tensor: tensor as unknown as NewTensorWithoutBytes,
    section,
    values: Float32Array.from(levels, (level, i) => level * steps[Math.floor(i / cols)]),
  }
}
