// What an invocation walks: a part of a block. Parts are numbered through all blocks, so that the end of one is the start of the
// next.
#import points
#requires arena, index_of, code_of, Cursor, cursor_at, Tile

/// The entry point of a part. Blocks start with part 0, which needs none.
fn point_of(at: u32, k: u32) -> Point {
  if (k == 0u) { return Point(0u, 0u, 0u); }
  return unpack_point(arena[at + point_word(k)], arena[at + POINT_REST], k);
}

/// First bit of a part in its stream.
fn bit_before(stream: u32, part: u32) -> u32 {
  let at = index_of(stream) + INDEX_WORDS * (part / LANES);
  if (LANES == 1u) { return arena[at]; }
  let point = point_of(at, part % LANES);
  return arena[at] + point.rank * (code_of(stream).low + 2u) + point.excess;
}

/// Entries of a ternary stream before a part.
fn kept_before(stream: u32, part: u32) -> u32 {
  let at = index_of(stream) + INDEX_WORDS * (part / LANES);
  if (LANES == 1u) { return arena[at + 1u]; }
  return arena[at + 1u] + point_of(at, part % LANES).rank;
}

/// First position that an entry of a part may have, as its code counts.
fn next_before(stream: u32, part: u32) -> f32 {
  if (LANES == 1u) { return 0.0; }
  return f32(point_of(index_of(stream) + INDEX_WORDS * (part / LANES), part % LANES).next);
}

fn open(stream: u32, part: u32) -> Cursor {
  var cursor = cursor_at(code_of(stream), bit_before(stream, part), bit_before(stream, part + 1u));
  cursor.next = next_before(stream, part);
  return cursor;
}

/// Positions of a part in its tile.
struct Positions {
  first: u32,
  end: u32,
}

fn positions_of(part: u32, tile: Tile) -> Positions {
  let first = min((part % LANES) * POSITIONS, tile.area);
  return Positions(first, min(first + POSITIONS, tile.area));
}
