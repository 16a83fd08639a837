import type { BaseBindings } from '../../format/index.ts'
import type { HoistedGraphFile } from './rewrite.ts'
import type { HoistedTensor } from './roundings.ts'

/** A model whose weights are inputs of its graphs. */
export interface HoistedModel {
  graphs: readonly HoistedGraphFile[]
  /** What feeds the inputs, in order of first use: the tensors of the weights file. */
  tensors: ReadonlyMap<string, HoistedTensor>
  /** Parameters that stayed in their graph because the checkpoint holds no such values. */
  unmatched: string[]
  /** Nodes whose weights stayed quantized. */
  quantized: string[]
}

/** The table for `TritTable.bindings`. */
export function bindingsOf({ graphs }: HoistedModel): BaseBindings {
  return {
    graphs: graphs
      .filter(({ weights }) => weights.length > 0)
      .map(({ graph, weights }) => ({ file: graph.file, inputs: weights.map(({ input }) => input) })),
  }
}
