// Decodes every block once to count its entries and to check that they stay inside the tile and end where the block
// ends, and notes entry points where several invocations are to share it. One invocation a block, over the blocks of all
// sections.
#import section
#import points
#import golomb
#import invocation

/// Blocks to decode, counted over all sections.
struct IndexBlocks {
  first_block: u32,
  end_block: u32,
}

@group(0) @binding(3) var<uniform> params: IndexBlocks;

/// Where the last entry ended, and the entry point that is noted next.
struct Points {
  k: u32,
  /// First position that the next entry may have.
  next: u32,
  /// Bits of the block, and how many of them are left.
  bits: i32,
  left: i32,
  rest: u32,
}

fn start_points(bits: i32) -> Points { return Points(1u, 0u, bits, bits, 0u); }

fn note_one(points: ptr<function, Points>, at: u32, low: u32, entries: u32) {
  let k = (*points).k;
  let excess = u32((*points).bits - (*points).left) - entries * (low + 2u);
  let point = Point(entries, (*points).next, excess);
  arena[at + point_word(k)] = pack_point(point);
  (*points).rest |= pack_rest(point, k);
  (*points).k = k + 1u;
}

/// Notes the entry points between the last entry and the one that was just taken, which has `entries` before it.
fn note(points: ptr<function, Points>, at: u32, low: u32, entries: u32, cursor: Cursor) {
  let position = u32(whole_of(cursor.position));
  while ((*points).k < LANES && position >= (*points).k * POSITIONS) { note_one(points, at, low, entries); }
  (*points).next = position + 1u;
  (*points).left = bits_left(cursor);
}

/// Notes those behind the last entry.
fn note_rest(points: ptr<function, Points>, at: u32, low: u32, entries: u32) {
  while ((*points).k < LANES) { note_one(points, at, low, entries); }
  arena[at + POINT_REST] = (*points).rest;
}

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

  let at = section.index + INDEX_WORDS * block_id;
  let stream = section.words + words_for(section.blocks * section.length_bits);
  let code = Code(stream, section.m, section.low, section.cut);
  let decoder = decoder_of(code);
  var cursor = cursor_at(code, arena[at], arena[at + INDEX_WORDS]);
  var entries = 0u;
  var points = start_points(cursor.left);
  var sound = true;
  while (more(cursor) && sound) {
    if (step(&cursor, decoder)) {
      sound = cursor.position < area;
      if (LANES > 1u) { note(&points, at, section.low, entries, cursor); }
      entries += 1u;
    }
  }
  if (LANES > 1u) { note_rest(&points, at, section.low, entries); }
  arena[at + 1u] = entries;
  if (!sound || bits_left(cursor) != 0) { fail(low_end, BAD_ENTRIES); }
}
