// Entries before every block: prefix sums of the counts that `index_blocks` left in the index, one workgroup a tensor.
#import section
#import runs

@compute @workgroup_size(64)
fn index_counts(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tensor = group.x + group.y * groups.x;
  if (tensor >= arrayLength(&sections)) { return; }
  let section = sections[tensor];
  let run = run_length(section.blocks);
  let first = min(lane * run, section.blocks);
  let end = min(first + run, section.blocks);
  var sum = 0u;
  for (var block_id = first; block_id < end; block_id++) {
    sum = add_up_to(sum, arena[section.index + INDEX_WORDS * block_id + 1u], 0xffffffffu);
  }
  var total = sum_before(lane, sum, 0xffffffffu);
  for (var block_id = first; block_id < end; block_id++) {
    let at = section.index + INDEX_WORDS * block_id + 1u;
    let entries = arena[at];
    arena[at] = total;
    total = add_up_to(total, entries, 0xffffffffu);
  }
  if (lane == 63u) {
    arena[section.index + INDEX_WORDS * section.blocks + 1u] = total;
    if (total != section.kept) { fail(tensor, BAD_COUNT); }
  }
}
