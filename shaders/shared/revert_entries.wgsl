#import entries
#import displaced

fn revert_entry(entry: Entry, start: u32) {
  if (entry.is_there) { overwrite(entry.element, displaced_at(start, entry.rank)); }
}

/// Restores the weights of one part that a ternary stream displaced.
fn revert_entries(stream: u32, part: u32, tile: Tile) {
  let entries = entries_of(stream, part);
  var cursor = open(stream, part);
  var rank = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    refill(&cursor);
    let first = next_entry(&cursor, &rank, entries, tile);
    let second = next_entry(&cursor, &rank, entries, tile);
    let third = next_entry(&cursor, &rank, entries, tile);
    revert_entry(first, entries.start);
    revert_entry(second, entries.start);
    revert_entry(third, entries.start);
  }
}
