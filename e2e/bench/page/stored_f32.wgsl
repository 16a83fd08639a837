@group(0) @binding(1) var<storage, read_write> weights: array<vec4f>;

fn add(quad: u32, delta: vec4f) {
  weights[quad] += delta;
}
