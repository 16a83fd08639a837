// Decodes one ternary stream and adds it to the weights in place, `LANES` invocations a block. The journal keeps the words
// that it overwrites.
#import job
#import apply_entries

@compute @workgroup_size(WORKGROUP_SIZE)
fn apply(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (is_part(part)) { apply_entries(0u, part, tile_of(part / LANES)); }
}
