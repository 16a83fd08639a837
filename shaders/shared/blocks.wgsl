// Weights quantized by blocks, as onnxruntime's MatMulNBits keeps them. Twin: `blocksReader` in src/format/blocks.ts.
#import half

struct Blocks {
  /// Of the quantized matrix, [out, in].
  rows: u32,
  cols: u32,
  bits: u32,
  block_size: u32,
  /// 1 where scales, and zero points that are floats, are binary16.
  half: u32,
  /// 0: the middle of the range; 1: integers, packed like the weights; 2: floats.
  zero_points: u32,
  /// Words of their buffers at which integers, scales and zero points start.
  quantized_at: u32,
  scales_at: u32,
  zeros_at: u32,
}

@group(0) @binding(2) var<storage, read> quantized: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
/// Any buffer where there are none.
@group(0) @binding(4) var<storage, read> zeros: array<u32>;

fn blocks_of_row(blocks: Blocks) -> u32 { return (blocks.cols + blocks.block_size - 1u) / blocks.block_size; }

fn zero_point(blocks: Blocks, row: u32, block_id: u32) -> f32 {
  let per_row = blocks_of_row(blocks);
  if (blocks.zero_points == 1u) {
    let row_bytes = (per_row * blocks.bits + 7u) >> 3u;
    let bit = row_bytes * row * 8u + block_id * blocks.bits;
    let word = zeros[blocks.zeros_at + (bit >> 5u)];
    return f32((word >> (bit & 31u)) & ((1u << blocks.bits) - 1u));
  }
  if (blocks.zero_points == 2u) {
    let index = row * per_row + block_id;
    if (blocks.half == 0u) { return bitcast<f32>(zeros[blocks.zeros_at + index]); }
    return bitcast<f32>(f32_from_half((zeros[blocks.zeros_at + (index >> 1u)] >> ((index & 1u) << 4u)) & 0xffffu));
  }
  return f32(1u << (blocks.bits - 1u));
}

fn scale_of(blocks: Blocks, row: u32, block_id: u32) -> f32 {
  let index = row * blocks_of_row(blocks) + block_id;
  if (blocks.half == 0u) { return bitcast<f32>(scales[blocks.scales_at + index]); }
  return bitcast<f32>(f32_from_half((scales[blocks.scales_at + (index >> 1u)] >> ((index & 1u) << 4u)) & 0xffffu));
}

/// The weight of column `col` with the integer `q`.
fn weight_of(q: u32, zero: f32, scale: f32) -> f32 { return (f32(q) - zero) * scale; }
