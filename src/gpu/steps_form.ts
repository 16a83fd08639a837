/**
 * Tensors of steps as kernels read them: for each entry a word with its position in the block in the lowest 12 bits and a step of
 * 16 bits in the highest, or a second word with a step of 32; then, for each block and once more for the end, a word that is not
 * used and the entries before it, as the index of a ternary stream has them.
 *
 * @module
 */
import type { SectionForm } from '../format/codecs/codec.ts'
import { type Steps, type StepUnit, stepBlocks, unitBits } from '../format/steps.ts'
import { tilingOf } from '../format/tiling.ts'
import { shaderConstants } from './shader_constants.ts'
import type { CodeParams } from './stream_form.ts'

const { NOT_JOURNALED, ...UNITS } = shaderConstants('steps', [
  'NOT_JOURNALED',
  'UNIT_F32',
  'UNIT_F16',
  'UNIT_BF16',
])

export { NOT_JOURNALED }

/** Invocations that the kernel `steps` has for a block, whatever the lanes of the others. */
export const STEPS_INVOCATIONS = 1

const UNIT_CODES: Record<StepUnit, number> = {
  f32: UNITS.UNIT_F32,
  f16: UNITS.UNIT_F16,
  bf16: UNITS.UNIT_BF16,
}

type StepsForm = Pick<Extract<SectionForm, { kind: 'steps' }>, 'kept' | 'unit'>

/** Words of a tensor, and the one where its index starts. */
export function stepsLayout(shape: readonly number[], { kept, unit }: StepsForm) {
  const index = kept * wordsOfEntry(unit)
  return { index, words: index + 2 * (tilingOf(shape).blocks + 1) }
}

function wordsOfEntry(unit: StepUnit): number {
  return unitBits(unit) / 16
}

/** The words of a tensor in the arena. */
export function packSteps(shape: readonly number[], form: StepsForm, all: Steps): Uint32Array<ArrayBuffer> {
  const { index, words } = stepsLayout(shape, form)
  const packed = new Uint32Array(words)
  const perEntry = wordsOfEntry(form.unit)
  for (const { block, before, first, end } of stepBlocks(shape, all)) {
    packed[index + 2 * block + 3] = end
    for (let i = first; i < end; i++) {
      const position = all.places[i] - before
      packed[i * perEntry] = perEntry === 1 ? position | (all.steps[i] << 16) : position
      if (perEntry === 2) packed[i * perEntry + 1] = all.steps[i]
    }
  }
  return packed
}

/** `Code` of shaders/shared/golomb.wgsl, as `steps` reads it. @param words - of the arena, where the entries start */
export function stepsCode(unit: StepUnit, words: number): CodeParams {
  return { words, m: wordsOfEntry(unit), low: UNIT_CODES[unit], cut: 0 }
}
