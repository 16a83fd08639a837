// First bit of every block: prefix sums of the packed block lengths, one workgroup a tensor.
#import section
#import bits
#import runs

fn length_at(section: Section, block_id: u32) -> u32 {
  return section.length_min + field_at(section.words, block_id, section.length_bits);
}

@compute @workgroup_size(64)
fn index_offsets(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tensor = group.x + group.y * groups.x;
  if (tensor >= arrayLength(&sections)) { return; }
  let section = sections[tensor];
  let index_words = words_for(section.blocks * section.length_bits);
  let room = 32u * (section.word_count - index_words);
  // Sums saturate just above the room, so that none wraps around to a value that would fit.
  let most = room + 1u;
  let run = run_length(section.blocks);
  let first = min(lane * run, section.blocks);
  let end = min(first + run, section.blocks);
  var sum = 0u;
  for (var block_id = first; block_id < end; block_id++) {
    sum = add_up_to(sum, length_at(section, block_id), most);
  }
  var total = sum_before(lane, sum, most);
  for (var block_id = first; block_id < end; block_id++) {
    arena[section.index + INDEX_WORDS * block_id] = total;
    total = add_up_to(total, length_at(section, block_id), most);
  }
  if (lane == 63u) {
    arena[section.index + INDEX_WORDS * section.blocks] = total;
    if (total > room || words_for(total) + index_words != section.word_count) { fail(tensor, BAD_LENGTHS); }
  }
}
