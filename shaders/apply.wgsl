// Decodes one ternary stream and adds it to the weights in place, one invocation a block, journaling what it
// displaces. Twin: src/gpu/reference/apply.ts.
#import job
#import target
#import journal
#import put_on

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

@compute @workgroup_size(WALKERS)
fn apply(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id < params.end_block) { put_on(0u, block_id, tile_of(block_id)); }
}
