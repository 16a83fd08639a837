// The base's own form: 4-bit blocks as `dequantize` reads them. Products of a scale of binary16 and an integer are exact in f32, so
// the value of an integer that is 0, which is added to them, may as well be a zero point times the scale.
#import nbits_zeros
#requires params

@group(0) @binding(3) var<storage, read> section: array<u32>;

/// Half `index` from word `at` on, as f32. Without branches, which `f32_from_half` has.
fn half_at(at: u32, index: u32) -> f32 {
  let word = section[at + index / 2u];
  let bits = select(word & 0xffffu, word >> 16u, (index & 1u) == 1u);
  let magnitude = bits & 0x7fffu;
  let scaled = magnitude * 0x2000u;
  let normal = bitcast<f32>(scaled + select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u));
  let value = select(normal, f32(i32(magnitude)) * 0x1p-24, magnitude < 0x400u);
  return select(value, -value, bits > 0x7fffu);
}

/// Scale, and value of an integer that is 0, in block `col` of a row.
fn line_of_block(row: u32, col: u32) -> vec2f {
  let index = row * params.blocks.per_row + col;
  let scale = half_at(params.blocks.scales_at, index);
  if (params.blocks.zero_points == ZEROS_MINIMUM) { return vec2f(scale, half_at(params.blocks.zeros_at, index)); }
  if (params.blocks.zero_points == ZEROS_DEFAULT) { return vec2f(scale, -8.0 * scale); }
  let bit = ((params.blocks.per_row + 1u) / 2u) * row * 8u + col * 4u;
  let zero = (section[params.blocks.zeros_at + bit / 32u] >> (bit & 31u)) & 15u;
  return vec2f(scale, -f32(zero) * scale);
}

/// Word of the integers of a row that has those from `first` across on.
fn integers_at(row: u32, first: u32) -> u32 {
  return params.blocks.quantized_at + row * params.blocks.row_words + first / 8u;
}

/// Values of the first and of the last four integers of a word. The last of all is below 0 in two's complement where it is 8 or
/// more.
fn low_four(word: u32, line: vec2f) -> vec4f {
  let integers = vec4f(vec4i(vec4u(word) & vec4u(0xfu, 0xf0u, 0xf00u, 0xf000u))) * vec4f(1.0, 0x1p-4, 0x1p-8, 0x1p-12);
  return integers * line.x + line.y;
}
fn high_four(word: u32, line: vec2f) -> vec4f {
  let some = vec4f(vec4i(vec4u(word) & vec4u(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u)));
  let integers = some * vec4f(0x1p-16, 0x1p-20, 0x1p-24, 0x1p-28);
  let last = select(integers.w, integers.w + 16.0, integers.w < 0.0);
  return vec4f(integers.xyz, last) * line.x + line.y;
}
