// The general switch: from any set of up to 8 streams to any other, ternary or dense. Deltas are summed in f32 in the
// order of the set and a weight is rounded once. For that, span by span of a block, all new streams but the last are
// summed first; then the streams are settled, the last one first: each entry that no later stream has journals its weight
// and adds the sum there. Twin: src/gpu/reference/blend.ts.
#import job
#import target
#import displaced
#import journal
#import take_off
#import dense_entries

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

const MAX_STREAMS = 8u;

/// What all new streams but the last add together. Between spans all are -0, the one number that changes neither zero when
/// something is added to it.
var<private> sums: array<f32, SPAN>;
/// Positions that are settled, 16 to a word.
var<private> settled: array<u32, SPAN / 16u>;

/// Where each ternary new stream goes on: bits left and next position at a window's start, and entries before the span.
struct Progress {
  left: i32,
  next: f32,
  rank: u32,
}
var<private> progress: array<Progress, MAX_STREAMS>;

struct Span {
  first: u32,
  end: u32,
}

/// An entry in a span.
struct SpanEntry {
  is_there: bool,
  /// Position from the span's first; 0 for none.
  place: u32,
  element: u32,
  rank: u32,
  negative: bool,
}

/// The cursor of new stream `i` where it goes on.
fn resume(i: u32, block_id: u32) -> Cursor {
  let stream = params.olds + i;
  let end = arena[params.streams[stream].index + 2u * block_id + 2u];
  var cursor = cursor_at(code_of(stream), end - u32(progress[i].left), end);
  cursor.next = progress[i].next;
  return cursor;
}

/// The next entry in the window, and the rank after it; none where it is out of the span.
fn entry_in(span: Span, cursor: ptr<function, Cursor>, rank: ptr<function, u32>, entries: Entries, tile: Tile) -> SpanEntry {
  let is_whole = take(cursor, entries.decoder);
  let position = (*cursor).position;
  let before = *rank;
  let is_in = (position >= f32(span.first)) & (position < f32(span.end));
  let is_there = is_whole & is_in & (before < entries.capacity);
  *rank = before + select(0u, 1u, is_there);
  let place = select(0u, u32(whole_of(position)) - span.first, is_there);
  let element = element_at(tile, select(f32(span.first), position, is_there));
  return SpanEntry(is_there, place, element, before, (*cursor).negative);
}

/// The bit of a place in its word. As a float, for the reason given in `golomb`.
fn bit_of(place: u32) -> u32 { return bitcast<u32>(whole_of(power_of_two(i32(place & 15u)))); }

fn add_entry(entry: SpanEntry, value: f32) {
  if (entry.is_there) { sums[entry.place] += signed_value(value, entry.negative); }
}

/// Adds ternary new stream `i` to the sums of a span.
fn add_ternary(i: u32, block_id: u32, tile: Tile, span: Span) {
  let stream = params.olds + i;
  let value = params.streams[stream].value;
  let entries = entries_of(stream, block_id);
  var cursor = resume(i, block_id);
  var rank = progress[i].rank;
  while (more(cursor) & (cursor.next < f32(span.end))) {
    refill(&cursor);
    let first = entry_in(span, &cursor, &rank, entries, tile);
    let second = entry_in(span, &cursor, &rank, entries, tile);
    let third = entry_in(span, &cursor, &rank, entries, tile);
    add_entry(first, value);
    add_entry(second, value);
    add_entry(third, value);
  }
}

/// Settles an entry of a new stream, which adds `own` if it is the last one, and is in the sum if it is not.
fn settle(entry: SpanEntry, is_last: bool, own: f32, start: u32, raw: u32, pending: ptr<function, u32>) {
  if (entry.is_there) {
    let word = entry.place >> 4u;
    let bit = bit_of(entry.place);
    let before = settled[word];
    settled[word] = before | bit;
    let is_open = (before & bit) == 0u;
    let sum = sums[entry.place];
    sums[entry.place] = -0.0;
    let changed = raw_of(value_of(raw) + select(sum, sum + own, is_last));
    journal_write(start, entry.rank, select(0u, raw, is_open), pending);
    store(entry.element, raw, select(raw, changed, is_open));
  }
}

/// Settles ternary new stream `i` in a span.
fn settle_ternary(i: u32, is_last: bool, block_id: u32, tile: Tile, span: Span) {
  let stream = params.olds + i;
  let value = params.streams[stream].value;
  let entries = entries_of(stream, block_id);
  var cursor = resume(i, block_id);
  var rank = progress[i].rank;
  var next = cursor.next;
  var pending = journal_pending(entries.start, rank);
  while (more(cursor) & (cursor.next < f32(span.end))) {
    next = cursor.next;
    refill(&cursor);
    let first = entry_in(span, &cursor, &rank, entries, tile);
    let second = entry_in(span, &cursor, &rank, entries, tile);
    let third = entry_in(span, &cursor, &rank, entries, tile);
    let first_raw = load(first.element);
    let second_raw = load(second.element);
    let third_raw = load(third.element);
    settle(first, is_last, signed_value(value, first.negative), entries.start, first_raw, &pending);
    settle(second, is_last, signed_value(value, second.negative), entries.start, second_raw, &pending);
    settle(third, is_last, signed_value(value, third.negative), entries.start, third_raw, &pending);
  }
  // The last window may reach beyond the span: the next span begins with it once more.
  progress[i] = Progress(cursor.left, next, rank);
}

/// What a dense stream adds at a position.
fn dense_delta(stream: u32, tile: Tile, position: u32) -> f32 {
  let flat = flat_at(tile, f32(position));
  let value = params.streams[stream].value;
  return value * dense_at(params.streams[stream].code.words, params.streams[stream].codec, flat);
}

fn add_dense(i: u32, tile: Tile, span: Span) {
  for (var position = span.first; position < span.end; position++) {
    sums[position - span.first] += dense_delta(params.olds + i, tile, position);
  }
}

fn settle_dense(i: u32, is_last: bool, block_id: u32, tile: Tile, span: Span) {
  let stream = params.olds + i;
  let start = dense_start(stream, block_id);
  var pending = journal_pending(start, span.first);
  for (var position = span.first; position < span.end; position++) {
    let element = element_at(tile, f32(position));
    let entry = SpanEntry(true, position - span.first, element, position, false);
    settle(entry, is_last, dense_delta(stream, tile, position), start, load(element), &pending);
  }
}

/// Puts back what a dense stream displaced in one block.
fn take_off_dense(stream: u32, block_id: u32, tile: Tile) {
  let start = dense_start(stream, block_id);
  for (var position = 0u; position < tile.area; position++) {
    overwrite(element_at(tile, f32(position)), displaced_at(start, position));
  }
}

@compute @workgroup_size(WALKERS)
fn blend(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let block_id = block_of(group, groups, lane);
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  // The last stream with an entry at a weight has what was displaced there.
  for (var stream = 0u; stream < min(params.olds, MAX_STREAMS); stream++) {
    if (params.streams[stream].codec == TERNARY) {
      take_off(stream, block_id, tile);
    } else {
      take_off_dense(stream, block_id, tile);
    }
  }
  let news = min(params.news, MAX_STREAMS);
  if (news == 0u) { return; }
  for (var i = 0u; i < news; i++) {
    if (params.streams[params.olds + i].codec == TERNARY) {
      let at = params.streams[params.olds + i].index + 2u * block_id;
      progress[i] = Progress(i32(arena[at + 2u] - arena[at]), 0.0, 0u);
    }
  }
  for (var at = 0u; at < SPAN; at++) { sums[at] = -0.0; }
  for (var first = 0u; first < tile.area; first += SPAN) {
    let span = Span(first, min(first + SPAN, tile.area));
    for (var word = 0u; word < SPAN / 16u; word++) { settled[word] = 0u; }
    for (var i = 0u; i + 1u < news; i++) {
      if (params.streams[params.olds + i].codec == TERNARY) {
        add_ternary(i, block_id, tile, span);
      } else {
        add_dense(i, tile, span);
      }
    }
    for (var left = news; left > 0u; left--) {
      let i = left - 1u;
      if (params.streams[params.olds + i].codec == TERNARY) {
        settle_ternary(i, left == news, block_id, tile, span);
      } else {
        settle_dense(i, left == news, block_id, tile, span);
      }
    }
  }
}
