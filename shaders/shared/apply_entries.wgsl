#import entries
#import journal

/// Journals the weight at an entry and adds `value` to it, with the sign of the entry.
fn apply_entry(entry: Entry, start: u32, value: f32, raw: u32, pending: ptr<function, u32>) {
  if (entry.is_there) {
    journal_write(start, entry.rank, raw, pending);
    store(entry.element, raw, raw_of(value_of(raw) + signed_value(value, entry.negative)));
  }
}

/// The weights at the entries of a turn. They are far apart, so the three loads are issued together: waiting for one after another
/// would take most of the time.
fn load_turn(turn: Turn) -> vec3u {
  return vec3u(load(turn.first.element), load(turn.second.element), load(turn.third.element));
}

/// Adds a ternary stream to the weights of one part and journals the weights it displaces.
fn apply_entries(stream: u32, part: u32, tile: Tile) {
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = open(stream, part);
  var rank = 0u;
  var pending = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    let turn = next_turn(&cursor, &rank, entries, tile);
    let raw = load_turn(turn);
    apply_entry(turn.first, entries.start, value, raw.x, &pending);
    apply_entry(turn.second, entries.start, value, raw.y, &pending);
    apply_entry(turn.third, entries.start, value, raw.z, &pending);
  }
}
