// -127 … 127; the scale is in the factor.
@group(0) @binding(2) var<storage, read> delta: array<u32>;

fn delta_of(quad: u32) -> vec4f {
  return unpack4x8snorm(delta[quad]) * 127.0;
}
