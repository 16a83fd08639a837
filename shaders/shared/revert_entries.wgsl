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
    let turn = next_turn(&cursor, &rank, entries, tile);
    revert_entry(turn.first, entries.start);
    revert_entry(turn.second, entries.start);
    revert_entry(turn.third, entries.start);
  }
}
