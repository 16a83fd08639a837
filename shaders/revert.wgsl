// Walks one ternary stream and puts back the raw weights that its journal has, `LANES` invocations a block.
#import job
#import revert_entries

@compute @workgroup_size(WORKGROUP_SIZE)
fn revert(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (is_part(part)) { revert_entries(0u, part, tile_of(part / LANES)); }
}
