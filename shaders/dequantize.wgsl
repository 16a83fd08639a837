// Dequantizes weights quantized by blocks into a weight buffer, one word of integers an invocation.
#import target
#import placement
#import nbits

struct Dequantize {
  placement: Placement,
  nbits: NBits,
}

@group(0) @binding(0) var<uniform> params: Dequantize;

@compute @workgroup_size(64)
fn dequantize(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  let bits = params.nbits.bits;
  let per_word = 32u / bits;
  let row_words = scales_per_row(params.nbits) * params.nbits.block_size / per_word;
  if (word >= params.nbits.rows * row_words) { return; }
  let row = word / row_words;
  let first = (word - row * row_words) * per_word;
  // A scale covers whole words, so all weights of a word share it.
  let scale_col = first / params.nbits.block_size;
  let scale = scale_of(params.nbits, row, scale_col);
  let zero = zero_of(params.nbits, row, scale_col);
  var rest = quantized[params.nbits.quantized_at + word];
  for (var i = 0u; i < per_word; i++) {
    let col = first + i;
    if (col < params.nbits.cols) {
      let value = weight_of(params.nbits, rest & ((1u << bits) - 1u), zero, scale);
      overwrite(element_of(params.placement, row * params.nbits.cols + col), raw_of(value));
    }
    rest = rest >> bits;
  }
}
