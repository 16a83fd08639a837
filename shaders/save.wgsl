// Copies the weights of a whole tensor, so that `expand` can make them anew: as binary32, or as the binary16 that they were made
// from, two a word.
#import target
#import placement

struct Save {
  placement: Placement,
  weights: u32,
  /// 1 for binary16.
  half: u32,
}

@group(0) @binding(0) var<uniform> params: Save;
@group(0) @binding(2) var<storage, read_write> saved: array<u32>;

@compute @workgroup_size(64)
fn save(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  let first = word * (1u + params.half);
  if (first >= params.weights) { return; }
  let raw = load(element_of(params.placement, first));
  if (params.half == 0u) {
    saved[word] = raw;
    return;
  }
  var pair = half_of(raw);
  if (first + 1u < params.weights) { pair |= half_of(load(element_of(params.placement, first + 1u))) << 16u; }
  saved[word] = pair;
}
