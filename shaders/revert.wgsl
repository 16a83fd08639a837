// Walks one ternary stream and puts back the raw weights that it displaced, one invocation a block.
// Twin: src/gpu/reference/revert.ts.
#import job
#import target
#import displaced
#import take_off

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

@compute @workgroup_size(WALKERS)
fn revert(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id < params.end_block) { take_off(0u, block_id, tile_of(block_id)); }
}
