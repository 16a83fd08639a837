@group(0) @binding(1) var<storage, read_write> weights: array<vec2u>;

fn add(quad: u32, delta: vec4f) {
  let old = weights[quad];
  weights[quad] = vec2u(
    pack2x16float(unpack2x16float(old.x) + delta.xy),
    pack2x16float(unpack2x16float(old.y) + delta.zw),
  );
}
