// The weights at eight positions of a tensor, as f32.
#import target

struct Gather {
  elements: array<vec4u, 2>,
  /// Index in `values` of the first of the eight.
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Gather;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(8)
fn gather(@builtin(local_invocation_index) lane: u32) {
  values[params.first + lane] = value_of(load(params.elements[lane >> 2u][lane & 3u]));
}
