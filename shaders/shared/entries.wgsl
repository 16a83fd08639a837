// The entries of one ternary stream in one block, in the order in which they are journaled.

struct Entries {
  cursor: Cursor,
  decoder: Decoder,
  /// First word of their journal.
  start: u32,
  /// How many there are, and how many were given out.
  capacity: u32,
  rank: u32,
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
  var entries: Entries;
  entries.cursor = open(stream, block_id);
  entries.decoder = decoder_of(code_of(stream));
  entries.start = journal_start(kept, block_id);
  entries.capacity = kept_before(stream, block_id + 1u) - kept;
  entries.rank = 0u;
  return entries;
}

fn any_left(entries: Entries) -> bool {
  return more(entries.cursor) & (entries.rank < entries.capacity);
}

/// The next entry in the window; where there is none, the element is anything.
fn next_entry(entries: ptr<function, Entries>, tile: Tile) -> Entry {
  let is_whole = take(&(*entries).cursor, (*entries).decoder);
  let position = (*entries).cursor.position;
  let rank = (*entries).rank;
  let is_there = is_whole & (position < f32(tile.area)) & (rank < (*entries).capacity);
  (*entries).rank = rank + select(0u, 1u, is_there);
  return Entry(is_there, element_at(tile, position), rank, (*entries).cursor.negative);
}
