#import entries
#import journal

/// Journals the weight at an entry and adds `value` to it, with the sign of the entry.
fn apply_entry(entry: Entry, start: u32, value: f32, raw: u32, pending: ptr<function, u32>) {
  if (entry.is_there) {
    journal_write(start, entry.rank, raw, pending);
    store(entry.element, raw, raw_of(value_of(raw) + signed_value(value, entry.negative)));
  }
}

/// Adds a ternary stream to the weights of one part and journals the weights it displaces.
fn apply_entries(stream: u32, part: u32, tile: Tile) {
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = open(stream, part);
  var rank = 0u;
  var pending = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    // A window has about three entries. Their weights are far apart, so the three loads are issued together: waiting for
    // one after another would take most of the time.
    refill(&cursor);
    let first = next_entry(&cursor, &rank, entries, tile);
    let second = next_entry(&cursor, &rank, entries, tile);
    let third = next_entry(&cursor, &rank, entries, tile);
    let first_raw = load(first.element);
    let second_raw = load(second.element);
    let third_raw = load(third.element);
    apply_entry(first, entries.start, value, first_raw, &pending);
    apply_entry(second, entries.start, value, second_raw, &pending);
    apply_entry(third, entries.start, value, third_raw, &pending);
  }
}
