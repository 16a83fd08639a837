// Puts back a whole tensor that `save` copied.
#import target
#import placement

struct Restore {
  placement: Placement,
  weights: u32,
}

@group(0) @binding(0) var<uniform> params: Restore;
@group(0) @binding(2) var<storage, read> saved: array<u32>;

fn put(flat: u32, raw: u32) { overwrite(element_of(params.placement, flat), raw); }

@compute @workgroup_size(64)
fn restore(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = ((group.x + group.y * groups.x) * 64u + lane) * PER_WORD;
  if (first >= params.weights) { return; }
  let word = saved[first / PER_WORD];
  if (PER_WORD == 1u) {
    put(first, word);
  } else {
    put(first, word & 0xffffu);
    if (first + 1u < params.weights) { put(first + 1u, word >> 16u); }
  }
}
