// First bit of every block: prefix sums of the packed block lengths, one workgroup a tensor.
// Twin: src/gpu/reference/index_offsets.ts.
#import section
#import bits
#import scan

@group(0) @binding(1) var<storage, read_write> arena: array<u32>;

@compute @workgroup_size(256)
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
  var total = 0u;
  for (var first = 0u; first < section.blocks; first += 256u) {
    let block_id = first + lane;
    var length = 0u;
    if (block_id < section.blocks) {
      length = section.length_min + field_at(section.words, block_id, section.length_bits);
    }
    let before = scan(lane, length);
    if (block_id < section.blocks) { arena[section.index + 2u * block_id] = total + before; }
    total += scan_total();
    // 256 lengths are below 2^26 bits, so the sum cannot wrap before it is seen to be too large.
    if (total > room) { break; }
  }
  if (lane == 0u) {
    arena[section.index + 2u * section.blocks] = total;
    if (total > room || words_for(total) + index_words != section.word_count) { fail(tensor, LENGTHS); }
  }
}
