/** `Place` of shaders/shared/place.wgsl. */
export interface Place {
  cols: number
  offset: number
  row_stride: number
  col_stride: number
}

export function elementOf({ cols, offset, row_stride, col_stride }: Place, flat: number): number {
  return offset + Math.floor(flat / cols) * row_stride + (flat % cols) * col_stride
}
