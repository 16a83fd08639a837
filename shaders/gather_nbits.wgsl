// The weights at eight positions of a matrix quantized by blocks, as f32.
#import nbits

struct GatherNBits {
  nbits: NBits,
  rows: array<vec4u, 2>,
  cols: array<vec4u, 2>,
  /// Index in `values` of the first of the eight.
  first: u32,
}

@group(0) @binding(0) var<uniform> params: GatherNBits;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(8)
fn gather_nbits(@builtin(local_invocation_index) lane: u32) {
  let row = params.rows[lane >> 2u][lane & 3u];
  let col = params.cols[lane >> 2u][lane & 3u];
  let scale_col = col / params.nbits.block_size;
  let at = row * scales_per_row(params.nbits) * params.nbits.block_size + col;
  let per_word = 32u / params.nbits.bits;
  let word = quantized[params.nbits.quantized_at + at / per_word];
  let q = (word >> ((at % per_word) * params.nbits.bits)) & ((1u << params.nbits.bits) - 1u);
  let scale = scale_of(params.nbits, row, scale_col);
  values[params.first + lane] = weight_of(params.nbits, q, zero_of(params.nbits, row, scale_col), scale);
}
