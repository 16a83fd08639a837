// Copies the raw weights of a whole tensor into a journal, row-major.
#import target
#import placement

struct Save {
  placement: Placement,
  weights: u32,
}

@group(0) @binding(0) var<uniform> params: Save;
@group(0) @binding(2) var<storage, read_write> saved: array<u32>;

@compute @workgroup_size(64)
fn save(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = ((group.x + group.y * groups.x) * 64u + lane) * PER_WORD;
  if (first >= params.weights) { return; }
  var word = load(element_of(params.placement, first));
  if (PER_WORD == 2u && first + 1u < params.weights) {
    word |= load(element_of(params.placement, first + 1u)) << 16u;
  }
  saved[first / PER_WORD] = word;
}
