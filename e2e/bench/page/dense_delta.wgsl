// W += factor · D with D uncompressed, every weight touched, four of them an invocation.
#import stored
#import arriving

struct DenseDelta {
  quads: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> params: DenseDelta;

@compute @workgroup_size(64)
fn dense_delta(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let quad = (group.x + group.y * groups.x) * 64u + lane;
  if (quad < params.quads) { add(quad, params.factor * delta_of(quad)); }
}
