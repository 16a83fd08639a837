// Decodes every block once to count its entries and to check that they stay inside the tile and end where the block
// ends. One invocation a block, over the blocks of all sections.
#import section
#import golomb
#import invocation

/// Blocks to decode, counted over all sections.
struct IndexBlocks {
  first_block: u32,
  end_block: u32,
}

@group(0) @binding(3) var<uniform> params: IndexBlocks;

@compute @workgroup_size(WORKGROUP_SIZE)
fn index_blocks(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let global_block = params.first_block + invocation_of(group, groups, lane);
  // After a failure the offsets are unreliable, so they must not be followed.
  if (global_block >= params.end_block || atomicLoad(&status[0]) != 0u) { return; }

  var low_end = 0u;
  var high_end = arrayLength(&sections);
  while (high_end - low_end > 1u) {
    let middle = (low_end + high_end) / 2u;
    if (sections[middle].first_block <= global_block) { low_end = middle; } else { high_end = middle; }
  }
  let section = sections[low_end];
  let block_id = global_block - section.first_block;
  let band = block_id / section.across;
  let height = min(section.tile_rows, section.rows - band * section.tile_rows);
  let width = min(section.tile_cols, section.cols - (block_id - band * section.across) * section.tile_cols);
  let area = f32(height * width);

  let at = section.index + 2u * block_id;
  let stream = section.words + words_for(section.blocks * section.length_bits);
  let code = Code(stream, section.m, section.low, section.cut);
  let decoder = decoder_of(code);
  var cursor = cursor_at(code, arena[at], arena[at + 2u]);
  var entries = 0u;
  var sound = true;
  while (more(cursor) && sound) {
    if (step(&cursor, decoder)) {
      sound = cursor.position < area;
      entries += 1u;
    }
  }
  arena[at + 1u] = entries;
  if (!sound || bits_left(cursor) != 0) { fail(low_end, BAD_ENTRIES); }
}
