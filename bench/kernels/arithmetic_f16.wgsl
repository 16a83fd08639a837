#import half

fn add_halves(weights: u32, delta: u32) -> u32 {
  return half_from_f32(bitcast<u32>(bitcast<f32>(f32_from_half(weights)) + bitcast<f32>(f32_from_half(delta))));
}

fn add_word(weights: u32, delta: u32) -> u32 {
  return add_halves(weights & 0xffffu, delta & 0xffffu) | (add_halves(weights >> 16u, delta >> 16u) << 16u);
}

fn add(weights: vec4u, delta: vec4u) -> vec4u {
  return vec4u(
    add_word(weights.x, delta.x),
    add_word(weights.y, delta.y),
    add_word(weights.z, delta.z),
    add_word(weights.w, delta.w),
  );
}
