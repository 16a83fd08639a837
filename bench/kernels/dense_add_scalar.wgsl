// The plain yardstick: W += D with D uncompressed, every weight touched, one word an invocation.
#import arithmetic

struct DenseAddScalar {
  words: u32,
}

@group(0) @binding(0) var<uniform> params: DenseAddScalar;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<u32>;

@compute @workgroup_size(64)
fn dense_add_scalar(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  if (word < params.words) { weights[word] = add_word(weights[word], delta[word]); }
}
