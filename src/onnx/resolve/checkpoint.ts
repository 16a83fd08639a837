/** What name resolution asks of the checkpoint that a graph was exported from. */
export interface Checkpoint {
  readonly name: string
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>
  /** Elements `[first, first + count)` of a tensor, flat row-major, as f32. */
  read(tensor: string, first: number, count: number): Promise<Float32Array>
}
