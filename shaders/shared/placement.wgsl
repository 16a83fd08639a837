/// Where the elements of a tensor lie in a buffer, as `Placement` of src/format/bindings.ts says.
struct Placement {
  cols: u32,
  offset: u32,
  row_stride: u32,
  col_stride: u32,
}

/// Element of a flat row-major index.
fn element_of(placement: Placement, flat: u32) -> u32 {
  let row = flat / placement.cols;
  return placement.offset + row * placement.row_stride + (flat - row * placement.cols) * placement.col_stride;
}
