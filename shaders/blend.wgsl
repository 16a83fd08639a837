// The general switch: from any set of up to MAX_STREAMS streams to any other, ternary or dense. Deltas are summed in f32
// in the order of the set, and a weight is rounded once. To that end an invocation works through its part slice by
// slice: it sums all applied streams but the last, then settles the streams from the last to the first. Each entry
// whose weight no later stream has settled journals that weight and adds the sum to it.
#import job
#import target
#import displaced
#import journal
#import entries
#import revert_entries
#import dense_entries

/// Sums of all applied streams but the last, by position in the slice. They are -0 between slices: -0 + x is x for both
/// zeros.
var<private> sums: array<f32, SLICE>;
/// One bit for each settled position, 16 to a word.
var<private> settled: array<u32, SLICE / 16u>;

/// Where a ternary applied stream continues: bits left and next position at the start of a window, and the number of
/// entries before the slice.
struct Progress {
  left: i32,
  next: f32,
  rank: u32,
}
var<private> progress: array<Progress, MAX_STREAMS>;

struct Slice {
  first: u32,
  end: u32,
}

struct SliceEntry {
  /// False where the slice or the window has no further entry.
  is_there: bool,
  /// Position in the slice; 0 without an entry.
  offset: u32,
  element: u32,
  rank: u32,
  negative: bool,
}

/// A cursor where applied stream `i` continues.
fn resume(i: u32, part: u32) -> Cursor {
  let stream = params.reverted + i;
  let end = bit_before(stream, part + 1u);
  var cursor = cursor_at(code_of(stream), end - u32(progress[i].left), end);
  cursor.next = progress[i].next;
  return cursor;
}

/// The next entry of the window if it lies in the slice; advances the rank.
fn entry_in(slice: Slice, cursor: ptr<function, Cursor>, rank: ptr<function, u32>, entries: Entries, tile: Tile) -> SliceEntry {
  let is_whole = take(cursor, entries.decoder);
  let position = (*cursor).position;
  let before = *rank;
  let is_in = (position >= f32(slice.first)) & (position < f32(slice.end));
  let is_there = is_whole & is_in & (before < entries.capacity);
  *rank = before + select(0u, 1u, is_there);
  let offset = select(0u, u32(whole_of(position)) - slice.first, is_there);
  let element = element_at(tile, select(f32(slice.first), position, is_there));
  return SliceEntry(is_there, offset, element, before, (*cursor).negative);
}

fn add_entry(entry: SliceEntry, value: f32) {
  if (entry.is_there) { sums[entry.offset] += signed_value(value, entry.negative); }
}

/// Adds ternary applied stream `i` to the sums of a slice.
fn add_ternary(i: u32, part: u32, tile: Tile, slice: Slice) {
  let stream = params.reverted + i;
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = resume(i, part);
  var rank = progress[i].rank;
  while (more(cursor) & (cursor.next < f32(slice.end))) {
    refill(&cursor);
    let first = entry_in(slice, &cursor, &rank, entries, tile);
    let second = entry_in(slice, &cursor, &rank, entries, tile);
    let third = entry_in(slice, &cursor, &rank, entries, tile);
    add_entry(first, value);
    add_entry(second, value);
    add_entry(third, value);
  }
}

/// Settles an entry of an applied stream. The last stream is not in the sums: it adds `own` here.
fn settle(entry: SliceEntry, is_last: bool, own: f32, start: u32, raw: u32, pending: ptr<function, u32>) {
  if (entry.is_there) {
    let word = entry.offset >> 4u;
    let bit = bit_of(entry.offset & 15u);
    let before = settled[word];
    settled[word] = before | bit;
    let is_open = (before & bit) == 0u;
    let sum = sums[entry.offset];
    sums[entry.offset] = -0.0;
    let changed = raw_of(value_of(raw) + select(sum, sum + own, is_last));
    journal_write(start, entry.rank, select(0u, raw, is_open), pending);
    store(entry.element, raw, select(raw, changed, is_open));
  }
}

/// Settles ternary applied stream `i` in a slice.
fn settle_ternary(i: u32, is_last: bool, part: u32, tile: Tile, slice: Slice) {
  let stream = params.reverted + i;
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = resume(i, part);
  var rank = progress[i].rank;
  var next = cursor.next;
  var pending = journal_pending(entries.start, rank);
  while (more(cursor) & (cursor.next < f32(slice.end))) {
    next = cursor.next;
    refill(&cursor);
    let first = entry_in(slice, &cursor, &rank, entries, tile);
    let second = entry_in(slice, &cursor, &rank, entries, tile);
    let third = entry_in(slice, &cursor, &rank, entries, tile);
    let first_raw = load(first.element);
    let second_raw = load(second.element);
    let third_raw = load(third.element);
    settle(first, is_last, signed_value(value, first.negative), entries.start, first_raw, &pending);
    settle(second, is_last, signed_value(value, second.negative), entries.start, second_raw, &pending);
    settle(third, is_last, signed_value(value, third.negative), entries.start, third_raw, &pending);
  }
  // The last window may reach beyond the slice, so the next slice decodes it again.
  progress[i] = Progress(cursor.left, next, rank);
}

/// The delta of a dense stream at a position.
fn dense_delta(stream: u32, tile: Tile, position: u32) -> f32 {
  let flat = flat_at(tile, f32(position));
  let value = value_in(stream);
  return value * dense_at(code_of(stream).words, codec_of(stream), flat);
}

fn add_dense(i: u32, tile: Tile, slice: Slice) {
  for (var position = slice.first; position < slice.end; position++) {
    sums[position - slice.first] += dense_delta(params.reverted + i, tile, position);
  }
}

fn settle_dense(i: u32, is_last: bool, part: u32, tile: Tile, slice: Slice) {
  let stream = params.reverted + i;
  let first = positions_of(part, tile).first;
  let start = dense_start(stream, part, first);
  var pending = journal_pending(start, slice.first - first);
  for (var position = slice.first; position < slice.end; position++) {
    let element = element_at(tile, f32(position));
    let entry = SliceEntry(true, position - slice.first, element, position - first, false);
    settle(entry, is_last, dense_delta(stream, tile, position), start, load(element), &pending);
  }
}

/// Restores the weights of one part that a dense stream displaced.
fn revert_dense(stream: u32, part: u32, tile: Tile) {
  let positions = positions_of(part, tile);
  let start = dense_start(stream, part, positions.first);
  for (var position = positions.first; position < positions.end; position++) {
    overwrite(element_at(tile, f32(position)), displaced_at(start, position - positions.first));
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn blend(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (!is_part(part)) { return; }
  let tile = tile_of(part / LANES);
  // Only the last stream with an entry at a weight has journaled it; what the others wrote there is overwritten.
  for (var stream = 0u; stream < min(params.reverted, MAX_STREAMS); stream++) {
    if (codec_of(stream) == TERNARY) {
      revert_entries(stream, part, tile);
    } else {
      revert_dense(stream, part, tile);
    }
  }
  let applied = min(params.applied, MAX_STREAMS);
  if (applied == 0u) { return; }
  for (var i = 0u; i < applied; i++) {
    if (codec_of(params.reverted + i) == TERNARY) {
      let stream = params.reverted + i;
      let bits = bit_before(stream, part + 1u) - bit_before(stream, part);
      progress[i] = Progress(i32(bits), next_before(stream, part), 0u);
    }
  }
  for (var at = 0u; at < SLICE; at++) { sums[at] = -0.0; }
  let positions = positions_of(part, tile);
  for (var first = positions.first; first < positions.end; first += SLICE) {
    let slice = Slice(first, min(first + SLICE, positions.end));
    for (var word = 0u; word < SLICE / 16u; word++) { settled[word] = 0u; }
    for (var i = 0u; i + 1u < applied; i++) {
      if (codec_of(params.reverted + i) == TERNARY) {
        add_ternary(i, part, tile, slice);
      } else {
        add_dense(i, tile, slice);
      }
    }
    for (var left = applied; left > 0u; left--) {
      let i = left - 1u;
      if (codec_of(params.reverted + i) == TERNARY) {
        settle_ternary(i, left == applied, part, tile, slice);
      } else {
        settle_dense(i, left == applied, part, tile, slice);
      }
    }
  }
}
