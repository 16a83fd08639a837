#import entries

/// Puts back what an entry displaced.
fn put_back(entry: Entry, start: u32) {
  if (entry.is_there) { overwrite(entry.element, displaced_at(start, entry.rank)); }
}

/// Puts back what a ternary stream displaced in one block.
fn take_off(stream: u32, block_id: u32, tile: Tile) {
  var entries = entries_of(stream, block_id);
  while (any_left(entries)) {
    refill(&entries.cursor);
    let first = next_entry(&entries, tile);
    let second = next_entry(&entries, tile);
    let third = next_entry(&entries, tile);
    put_back(first, entries.start);
    put_back(second, entries.start);
    put_back(third, entries.start);
  }
}
