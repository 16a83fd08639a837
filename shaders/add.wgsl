// W := W + sum of dense deltas, each times its weight, over a whole tensor: what `dense` does, where the base is kept and not what
// is displaced. The sum starts from the first delta and is added once.
#import target
#import placement

/// Deltas of one target: as many as experts can be active.
const MAX_DELTAS = 8u;

struct Delta {
  /// Arena word of the first value.
  words: u32,
  /// 1 where a word holds two binary16, 0 where it is a binary32.
  half: u32,
  /// Uniform arrays have elements of whole vectors.
  @size(8) weight: f32,
}

struct Add {
  placement: Placement,
  /// Of the tensor. Its elements are taken in the order of `placement`, and their values from row-major ones.
  weights: u32,
  /// Values from one row of `placement` to the next, and from one column to the next.
  row_values: u32,
  col_values: u32,
  deltas: u32,
  delta: array<Delta, MAX_DELTAS>,
}

@group(0) @binding(0) var<uniform> params: Add;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

fn delta_at(delta: Delta, at: u32) -> f32 {
  if (delta.half == 0u) { return delta.weight * bitcast<f32>(arena[delta.words + at]); }
  let word = arena[delta.words + (at >> 1u)];
  return delta.weight * bitcast<f32>(f32_from_half((word >> ((at & 1u) << 4u)) & 0xffffu));
}

@compute @workgroup_size(64)
fn add(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let flat = (group.x + group.y * groups.x) * 64u + lane;
  if (flat >= params.weights) { return; }
  let row = flat / params.placement.cols;
  let at = row * params.row_values + (flat - row * params.placement.cols) * params.col_values;
  var sum = delta_at(params.delta[0], at);
  for (var i = 1u; i < params.deltas; i++) { sum += delta_at(params.delta[i], at); }
  let element = element_of(params.placement, flat);
  let raw = load(element);
  store(element, raw, raw_of(value_of(raw) + sum));
}
