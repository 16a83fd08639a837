import { shaderConstants } from '../../../src/gpu/shader_constants.ts'

/** Invocations that share a block. */
export type Lanes = 1 | 8

/** Words that the index of a stream has for a block, by lanes. */
export const INDEX_WORDS: Readonly<Record<Lanes, number>> = {
  1: shaderConstants('lanes_1', ['INDEX_WORDS']).INDEX_WORDS,
  8: shaderConstants('lanes_8', ['INDEX_WORDS']).INDEX_WORDS,
}

/** Positions of a part, by lanes. */
export const POSITIONS: Readonly<Record<Lanes, number>> = {
  1: shaderConstants('lanes_1', ['POSITIONS']).POSITIONS,
  8: shaderConstants('lanes_8', ['POSITIONS']).POSITIONS,
}
