// Weights quantized by blocks to where they lie in a weight buffer, a word of integers for each invocation.
// Twin: src/gpu/reference/dequantize.ts.
#import target
#import place
#import blocks

struct Dequantize {
  place: Place,
  blocks: Blocks,
}

@group(0) @binding(0) var<uniform> params: Dequantize;

@compute @workgroup_size(64)
fn dequantize(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  let bits = params.blocks.bits;
  let per_word = 32u / bits;
  let row_words = blocks_of_row(params.blocks) * params.blocks.block_size / per_word;
  if (word >= params.blocks.rows * row_words) { return; }
  let row = word / row_words;
  let first = (word - row * row_words) * per_word;
  // Blocks are whole words: all of a word's weights share one.
  let block_id = first / params.blocks.block_size;
  let scale = scale_of(params.blocks, row, block_id);
  let zero = zero_point(params.blocks, row, block_id);
  var rest = quantized[params.blocks.quantized_at + word];
  for (var i = 0u; i < per_word; i++) {
    let col = first + i;
    if (col < params.blocks.cols) {
      let value = weight_of(rest & ((1u << bits) - 1u), zero, scale);
      overwrite(element_of(params.place, row * params.blocks.cols + col), raw_of(value));
    }
    rest = rest >> bits;
  }
}
