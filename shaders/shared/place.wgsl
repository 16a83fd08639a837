/// Where a tensor lies in a buffer: `Placement` in src/format/bindings.ts.
struct Place {
  cols: u32,
  offset: u32,
  row_stride: u32,
  col_stride: u32,
}

/// Element of a flat row-major index.
fn element_of(place: Place, flat: u32) -> u32 {
  let row = flat / place.cols;
  return place.offset + row * place.row_stride + (flat - row * place.cols) * place.col_stride;
}
