// Decodes one ternary stream and adds it to the weights in place, one invocation a block. The journal keeps the words
// that it overwrites.
#import job
#import apply_entries

@compute @workgroup_size(WORKGROUP_SIZE)
fn apply(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id < params.end_block) { apply_entries(0u, block_id, tile_of(block_id)); }
}
