import type { ProductKind } from '../graph/operators.ts'

/**
 * A product with a weight of integers. The weight stays in its graph, where no merge reaches it; its names and where
 * its product is are written into the graph, so that experts can be put beside it.
 */
export interface IntegerSite {
  /** The value that the product is, in floats. */
  output: string
  kind: ProductKind
  /** Initializer of the integers. */
  weight: string
  /** As the float weight would be: [inputs, outputs] for linear, [tokens, outputs], or [outputs, ...kernel]. */
  dims: readonly number[]
  parts: readonly IntegerPart[]
}

export interface IntegerPart {
  target: string
  /** In the checkpoint. */
  shape: readonly number[]
  firstOutput: number
  transposed: boolean
  /** The weights at the target's sketch positions. */
  sketch: readonly number[]
}
