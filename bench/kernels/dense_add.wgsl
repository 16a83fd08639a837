// The yardstick: W += D with D uncompressed, every weight touched, four words an invocation.
#import arithmetic

struct DenseAdd {
  quads: u32,
}

@group(0) @binding(0) var<uniform> params: DenseAdd;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4u>;
@group(0) @binding(2) var<storage, read> delta: array<vec4u>;

@compute @workgroup_size(64)
fn dense_add(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let quad = (group.x + group.y * groups.x) * 64u + lane;
  if (quad < params.quads) { weights[quad] = add(weights[quad], delta[quad]); }
}
