// Weights quantized as onnxruntime's MatMulNBits keeps them: integers with a scale, and maybe a zero point or a minimum,
// for each run of `block_size` of them. The scales are a matrix of `rows` x `scales_per_row`. `nbitsReader` in
// src/format/codecs/nbits_decode.ts is the definition.
#import half
#import nbits_zeros

struct NBits {
  /// Of the quantized matrix, [out, in].
  rows: u32,
  cols: u32,
  bits: u32,
  block_size: u32,
  /// 1 where scales, and zero points that are floats, are binary16, 0 where they are binary32. Minimums are binary16.
  half: u32,
  zero_points: u32,
  /// First words of the integers, scales and zero points in their buffers.
  quantized_at: u32,
  scales_at: u32,
  zeros_at: u32,
}

@group(0) @binding(2) var<storage, read> quantized: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
/// Zero points or minimums; without either any buffer is bound here.
@group(0) @binding(4) var<storage, read> zeros: array<u32>;

fn scales_per_row(nbits: NBits) -> u32 { return (nbits.cols + nbits.block_size - 1u) / nbits.block_size; }

/// Of a quantization block: its zero point, or its minimum.
fn zero_of(nbits: NBits, row: u32, scale_col: u32) -> f32 {
  let per_row = scales_per_row(nbits);
  if (nbits.zero_points == ZEROS_PACKED) {
    let row_bytes = (per_row * nbits.bits + 7u) >> 3u;
    let bit = row_bytes * row * 8u + scale_col * nbits.bits;
    let word = zeros[nbits.zeros_at + (bit >> 5u)];
    return f32((word >> (bit & 31u)) & ((1u << nbits.bits) - 1u));
  }
  if (nbits.zero_points >= ZEROS_FLOAT) {
    let index = row * per_row + scale_col;
    if (nbits.half == 0u) { return bitcast<f32>(zeros[nbits.zeros_at + index]); }
    return bitcast<f32>(f32_from_half((zeros[nbits.zeros_at + (index >> 1u)] >> ((index & 1u) << 4u)) & 0xffffu));
  }
  return f32(1u << (nbits.bits - 1u));
}

fn scale_of(nbits: NBits, row: u32, scale_col: u32) -> f32 {
  let index = row * scales_per_row(nbits) + scale_col;
  if (nbits.half == 0u) { return bitcast<f32>(scales[nbits.scales_at + index]); }
  return bitcast<f32>(f32_from_half((scales[nbits.scales_at + (index >> 1u)] >> ((index & 1u) << 4u)) & 0xffffu));
}

/// The weight of the integer `q`.
fn weight_of(nbits: NBits, q: u32, zero: f32, scale: f32) -> f32 {
  // Exact product, so a device that fuses it with the sum rounds to the same.
  if (nbits.zero_points == ZEROS_MINIMUM) { return f32(q) * scale + zero; }
  return (f32(q) - zero) * scale;
}

/// `weight_of` four integers of a block.
fn four_weights(nbits: NBits, q: vec4u, zero: f32, scale: f32) -> vec4f {
  // Below 256: a CPU that plays GPU converts signed integers in one instruction.
  let integers = vec4f(vec4i(q));
  if (nbits.zero_points == ZEROS_MINIMUM) { return integers * scale + zero; }
  return (integers - zero) * scale;
}
