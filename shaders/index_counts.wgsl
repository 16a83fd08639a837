// Entries before every block: prefix sums of the counts that `index_blocks` left, one workgroup a tensor.
// Twin: src/gpu/reference/index_counts.ts.
#import section
#import scan

@group(0) @binding(1) var<storage, read_write> arena: array<u32>;

@compute @workgroup_size(256)
fn index_counts(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tensor = group.x + group.y * groups.x;
  if (tensor >= arrayLength(&sections)) { return; }
  let section = sections[tensor];
  var total = 0u;
  for (var first = 0u; first < section.blocks; first += 256u) {
    let block_id = first + lane;
    let at = section.index + 2u * block_id + 1u;
    var entries = 0u;
    if (block_id < section.blocks) { entries = arena[at]; }
    let before = scan(lane, entries);
    if (block_id < section.blocks) { arena[at] = total + before; }
    total += scan_total();
  }
  if (lane == 0u) {
    arena[section.index + 2u * section.blocks + 1u] = total;
    if (total != section.kept) { fail(tensor, COUNT); }
  }
}
