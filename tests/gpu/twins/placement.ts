/** `Placement` of shaders/shared/placement.wgsl. */
export interface Placement {
  cols: number
  offset: number
  row_stride: number
  col_stride: number
}

export function elementOf({ cols, offset, row_stride, col_stride }: Placement, flat: number): number {
  return offset + Math.floor(flat / cols) * row_stride + (flat % cols) * col_stride
}
