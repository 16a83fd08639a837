// One pass from expert A to expert B: each block is restored from A's journal and changed by B while its weights are
// still in the cache. These are two plain loops, not a merge of the two streams: neighbouring invocations would diverge
// at the branches of a merge.
#import job
#import apply_entries
#import revert_entries

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (!is_part(part)) { return; }
  let tile = tile_of(part / LANES);
  revert_entries(0u, part, tile);
  apply_entries(1u, part, tile);
}
