// W := base + sum of weight * scale * x * y^T: `terms` on a base that is made anew from its 4-bit blocks on the way, whatever is on
// the weights. It has one pair: a loop over pairs, even one that does not run, costs a CPU that plays GPU as much as all the rest.
#import terms_tile

const IN_PLACE = false;

fn tile_sums(x: Along, i: u32, tile: u32) -> Sums { return sums_of(0u, x, tile); }

@compute @workgroup_size(64)
fn terms_blocks(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let strip = params.first_strip + (group.x + group.y * groups.x) * 64u + lane;
  if (strip < params.end_strip) { change_strip(strip); }
}
