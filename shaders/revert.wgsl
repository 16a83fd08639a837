// Walks one ternary stream and puts back the raw weights that its journal has, one invocation a block.
#import job
#import revert_entries

@compute @workgroup_size(WORKGROUP_SIZE)
fn revert(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id < params.end_block) { revert_entries(0u, block_id, tile_of(block_id)); }
}
