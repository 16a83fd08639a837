fn add(weights: vec4u, delta: vec4u) -> vec4u {
  return bitcast<vec4u>(bitcast<vec4f>(weights) + bitcast<vec4f>(delta));
}
