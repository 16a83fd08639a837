// The entries of one ternary stream in one block, in the order in which they are journaled. Its cursor is a variable
// of its own: a pointer to a member of a struct cannot be passed to a function everywhere.

struct Entries {
  decoder: Decoder,
  /// First word of their journal.
  start: u32,
  /// How many there are.
  capacity: u32,
}

struct Entry {
  /// False for none: the window has no whole code any more, or the stream is at its end.
  is_there: bool,
  element: u32,
  rank: u32,
  negative: bool,
}

fn entries_of(stream: u32, block_id: u32) -> Entries {
  let kept = kept_before(stream, block_id);
  let capacity = kept_before(stream, block_id + 1u) - kept;
  let start = params.streams[stream].journal + journal_start(kept, block_id);
  return Entries(decoder_of(code_of(stream)), start, capacity);
}

/// The next entry in the window, and the rank after it; where there is none, the element is the first of the tile.
fn next_entry(cursor: ptr<function, Cursor>, rank: ptr<function, u32>, entries: Entries, tile: Tile) -> Entry {
  let is_whole = take(cursor, entries.decoder);
  let position = (*cursor).position;
  let before = *rank;
  let is_there = is_whole & (position < f32(tile.area)) & (before < entries.capacity);
  *rank = before + select(0u, 1u, is_there);
  // Loads that nobody looks at stay in the tensor, too.
  let element = select(tile.origin, element_at(tile, position), is_there);
  return Entry(is_there, element, before, (*cursor).negative);
}
