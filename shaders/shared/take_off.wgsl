#import entries

/// Puts back what an entry displaced.
fn put_back(entry: Entry, start: u32) {
  if (entry.is_there) { overwrite(entry.element, displaced_at(start, entry.rank)); }
}

/// Puts back what a ternary stream displaced in one block.
fn take_off(stream: u32, block_id: u32, tile: Tile) {
  let entries = entries_of(stream, block_id);
  var cursor = open(stream, block_id);
  var rank = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    refill(&cursor);
    let first = next_entry(&cursor, &rank, entries, tile);
    let second = next_entry(&cursor, &rank, entries, tile);
    let third = next_entry(&cursor, &rank, entries, tile);
    put_back(first, entries.start);
    put_back(second, entries.start);
    put_back(third, entries.start);
  }
}
