/** The checkpoint that a graph was exported from, as far as name resolution reads it. */
export interface Checkpoint {
  readonly name: string
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>
  /** Elements `[first, first + count)` of a tensor, flat row-major, as f32. */
  read(tensor: string, first: number, count: number): Promise<Float32Array>
}
