// One pass from expert A to expert B: each block is restored from A's journal and at once, while its weights are still
// in cache, changed by B. Two plain loops, not a merge walk: neighbouring invocations would take turns at its branches.
// Twin: src/gpu/reference/fused.ts.
#import job
#import target
#import displaced
#import journal
#import put_on
#import take_off

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

@compute @workgroup_size(WALKERS)
fn fused(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  take_off(0u, block_id, tile);
  put_on(1u, block_id, tile);
}
