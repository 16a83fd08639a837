// The entries of one ternary stream in one part, in the order in which they are journaled. The cursor is a variable of
// its own because not every device can pass a pointer to a member of a struct.
#import job
#import target

struct Entries {
  decoder: Decoder,
  /// First word of their journal.
  start: u32,
  /// How many entries the part has.
  capacity: u32,
}

struct Entry {
  /// False where the window has no further whole code, or the stream has ended.
  is_there: bool,
  element: u32,
  /// In its tile; of the one before it where there is none.
  position: u32,
  rank: u32,
  negative: bool,
}

fn entries_of(stream: u32, part: u32) -> Entries {
  let kept = kept_before(stream, part);
  let capacity = kept_before(stream, part + 1u) - kept;
  let start = journal_of(stream) + journal_start(kept, part);
  return Entries(decoder_of(code_of(stream)), start, capacity);
}

/// The next entry of the window; advances the rank. Without an entry, the element is the first of the tile.
fn next_entry(cursor: ptr<function, Cursor>, rank: ptr<function, u32>, entries: Entries, tile: Tile) -> Entry {
  let is_whole = take(cursor, entries.decoder);
  let position = (*cursor).position;
  let before = *rank;
  let is_there = is_whole & (position < f32(tile.area)) & (before < entries.capacity);
  *rank = before + select(0u, 1u, is_there);
  // Callers load the element before they check `is_there`, so it has to lie in the tensor.
  let element = select(tile.origin, element_at(tile, position), is_there);
  return Entry(is_there, element, u32(whole_of(position)), before, (*cursor).negative);
}

/// What a turn of a loop takes: the entries of one window, which has about three.
struct Turn {
  first: Entry,
  second: Entry,
  third: Entry,
}

fn next_turn(cursor: ptr<function, Cursor>, rank: ptr<function, u32>, entries: Entries, tile: Tile) -> Turn {
  refill(cursor);
  let first = next_entry(cursor, rank, entries, tile);
  let second = next_entry(cursor, rank, entries, tile);
  let third = next_entry(cursor, rank, entries, tile);
  return Turn(first, second, third);
}
