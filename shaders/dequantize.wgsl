// Dequantizes weights quantized by blocks into a weight buffer, one block an invocation.
#import target
#import placement
#import nbits

struct Dequantize {
  /// Its columns are those of the quantized matrix.
  placement: Placement,
  nbits: NBits,
}

@group(0) @binding(0) var<uniform> params: Dequantize;

fn put_four(element: u32, values: vec4f) {
  let step = params.placement.col_stride;
  overwrite(element, raw_of(values.x));
  overwrite(element + step, raw_of(values.y));
  overwrite(element + 2u * step, raw_of(values.z));
  overwrite(element + 3u * step, raw_of(values.w));
}

@compute @workgroup_size(64)
fn dequantize(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = (group.x + group.y * groups.x) * 64u + lane;
  let nbits = params.nbits;
  let per_row = scales_per_row(nbits);
  if (index >= nbits.rows * per_row) { return; }
  // Neighbouring invocations write neighbours in memory: the next rows where those are one element apart.
  let down = params.placement.row_stride < params.placement.col_stride;
  let length = select(per_row, nbits.rows, down);
  let line = index / length;
  let along = index - line * length;
  let row = select(line, along, down);
  let col = select(along, line, down);
  let scale = scale_of(nbits, row, col);
  let zero = zero_of(nbits, row, col);
  let per_word = 32u / nbits.bits;
  let words = nbits.block_size / per_word;
  let step = params.placement.col_stride;
  let first = col * nbits.block_size;
  // The last block of a row is filled up.
  let end = min(first + nbits.block_size, nbits.cols);
  var at = nbits.quantized_at + (row * per_row + col) * words;
  var element = params.placement.offset + row * params.placement.row_stride + first * step;
  for (var i = first; i < end; i += per_word) {
    var rest = quantized[at];
    at++;
    if (nbits.bits == 4u && i + per_word <= end) {
      let low = vec4u(rest, rest >> 4u, rest >> 8u, rest >> 12u) & vec4u(15u);
      let high = vec4u(rest >> 16u, rest >> 20u, rest >> 24u, rest >> 28u) & vec4u(15u);
      put_four(element, four_weights(nbits, low, zero, scale));
      put_four(element + 4u * step, four_weights(nbits, high, zero, scale));
      element += 8u * step;
      continue;
    }
    for (var k = i; k < min(i + per_word, end); k++) {
      overwrite(element, raw_of(weight_of(nbits, rest & ((1u << nbits.bits) - 1u), zero, scale)));
      rest = rest >> nbits.bits;
      element += step;
    }
  }
}
