// 4-bit weights of onnxruntime's MatMulNBits (symmetric: zero is 8) to where they lie in a weight buffer. Rows hold whole
// blocks, padded at the end; a block has one scale. Twin: src/gpu/reference/dequantize.ts.
#import target
#import place

struct Dequantize {
  place: Place,
  rows: u32,
  /// Packed words in a row, eight weights each.
  row_words: u32,
  /// Packed words that share a scale.
  block_words: u32,
  /// 1 where `scales` are binary16.
  half: u32,
}

@group(0) @binding(0) var<uniform> params: Dequantize;
@group(0) @binding(2) var<storage, read> quantized: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

fn scale_at(index: u32) -> f32 {
  if (params.half == 0u) { return bitcast<f32>(scales[index]); }
  return bitcast<f32>(f32_from_half((scales[index >> 1u] >> ((index & 1u) << 4u)) & 0xffffu));
}

@compute @workgroup_size(64)
fn dequantize(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  if (word >= params.rows * params.row_words) { return; }
  let row = word / params.row_words;
  let first = (word - row * params.row_words) * 8u;
  let scale = scale_at(word / params.block_words);
  let bits = quantized[word];
  for (var i = 0u; i < 8u; i++) {
    let col = first + i;
    if (col < params.place.cols) {
      let value = scale * (f32((bits >> (4u * i)) & 15u) - 8.0);
      overwrite(element_of(params.place, row * params.place.cols + col), raw_of(value));
    }
  }
}
