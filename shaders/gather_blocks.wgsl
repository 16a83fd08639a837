// The weights at eight positions of a matrix that is quantized by blocks, as f32. Twin: src/gpu/reference/gather_blocks.ts.
#import blocks

struct GatherBlocks {
  blocks: Blocks,
  rows: array<vec4u, 2>,
  cols: array<vec4u, 2>,
  /// First of the eight values to write.
  first: u32,
}

@group(0) @binding(0) var<uniform> params: GatherBlocks;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(8)
fn gather_blocks(@builtin(local_invocation_index) lane: u32) {
  let row = params.rows[lane >> 2u][lane & 3u];
  let col = params.cols[lane >> 2u][lane & 3u];
  let block_id = col / params.blocks.block_size;
  let at = row * blocks_of_row(params.blocks) * params.blocks.block_size + col;
  let per_word = 32u / params.blocks.bits;
  let word = quantized[params.blocks.quantized_at + at / per_word];
  let q = (word >> ((at % per_word) * params.blocks.bits)) & ((1u << params.blocks.bits) - 1u);
  let scale = scale_of(params.blocks, row, block_id);
  values[params.first + lane] = weight_of(q, zero_point(params.blocks, row, block_id), scale);
}
