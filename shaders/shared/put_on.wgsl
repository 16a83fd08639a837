#import entries

/// Journals the weight that an entry displaces and adds `value` to it.
fn change(entry: Entry, start: u32, value: f32, raw: u32, pending: ptr<function, u32>) {
  if (entry.is_there) {
    journal_write(start, entry.rank, raw, pending);
    store(entry.element, raw, raw_of(value_of(raw) + signed_value(value, entry.negative)));
  }
}

/// Adds a ternary stream to the weights of one block and journals what it displaces.
fn put_on(stream: u32, block_id: u32, tile: Tile) {
  let value = params.streams[stream].value;
  let entries = entries_of(stream, block_id);
  var cursor = open(stream, block_id);
  var rank = 0u;
  var pending = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    // A window has three entries, more or less. Their loads come side by side: the weights are far apart, and waiting
    // for one at a time would take most of the time.
    refill(&cursor);
    let first = next_entry(&cursor, &rank, entries, tile);
    let second = next_entry(&cursor, &rank, entries, tile);
    let third = next_entry(&cursor, &rank, entries, tile);
    let first_raw = load(first.element);
    let second_raw = load(second.element);
    let third_raw = load(third.element);
    change(first, entries.start, value, first_raw, &pending);
    change(second, entries.start, value, second_raw, &pending);
    change(third, entries.start, value, third_raw, &pending);
  }
}
