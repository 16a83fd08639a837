@group(0) @binding(2) var<storage, read> delta: array<vec2u>;

fn delta_of(quad: u32) -> vec4f {
  let words = delta[quad];
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}
