fn add_word(weights: u32, delta: u32) -> u32 { return bitcast<u32>(bitcast<f32>(weights) + bitcast<f32>(delta)); }

fn add(weights: vec4u, delta: vec4u) -> vec4u {
  return bitcast<vec4u>(bitcast<vec4f>(weights) + bitcast<vec4f>(delta));
}
