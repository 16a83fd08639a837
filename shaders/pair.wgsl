// What `blend` does where one or two ternary streams are applied, whatever ternary ones are reverted: each stream is read once.
// The last one is applied as if it were alone, and marks where it has entries. Where the other one meets a mark, the weight of the
// base is in the last one's journal, at the entry that has as many marks before it.
#import job
#import apply_entries
#import revert_entries

/// Positions in a word of marks. The low byte says where the last stream has entries, the next one which are negative, and the high
/// half how many entries there are before the word.
const MARKED = 8u;

var<private> marks: array<u32, POSITIONS / MARKED>;

/// The mark of a position in its word; the one of its sign is 8 bits higher.
fn mark_of(offset: u32) -> u32 { return bit_of(offset & (MARKED - 1u)); }

struct Others {
  /// First journal word of the last stream, and its value.
  start: u32,
  value: f32,
}

fn mark_entry(entry: Entry, first: u32) {
  if (entry.is_there) {
    let offset = entry.position - first;
    let mark = mark_of(offset);
    let word = marks[offset / MARKED];
    let before = select(word, entry.rank << 16u, word == 0u);
    marks[offset / MARKED] = before | select(mark, mark | (mark << 8u), entry.negative);
  }
}

/// Applies the last stream, and marks its entries.
fn apply_marking(stream: u32, part: u32, tile: Tile, first: u32) {
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = open(stream, part);
  var rank = 0u;
  var pending = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    let turn = next_turn(&cursor, &rank, entries, tile);
    let raw = load_turn(turn);
    mark_entry(turn.first, first);
    mark_entry(turn.second, first);
    mark_entry(turn.third, first);
    apply_entry(turn.first, entries.start, value, raw.x, &pending);
    apply_entry(turn.second, entries.start, value, raw.y, &pending);
    apply_entry(turn.third, entries.start, value, raw.z, &pending);
  }
}

/// Applies an entry of the first stream, which is the sum of both where the last one has marked it.
fn add_entry(
  entry: Entry,
  start: u32,
  value: f32,
  raw: u32,
  pending: ptr<function, u32>,
  first: u32,
  last: Others,
) {
  if (!entry.is_there) { return; }
  let offset = entry.position - first;
  let own = signed_value(value, entry.negative);
  let mark = mark_of(offset);
  let marked = marks[offset / MARKED];
  var base = raw;
  var sum = own;
  var kept = raw;
  if ((marked & mark) != 0u) {
    base = journal_at(last.start, (marked >> 16u) + countOneBits(marked & (mark - 1u)));
    sum = own + signed_value(last.value, (marked & (mark << 8u)) != 0u);
    kept = 0u;
  }
  journal_write(start, entry.rank, kept, pending);
  store(entry.element, raw, raw_of(value_of(base) + sum));
}

fn apply_both(stream: u32, last: u32, part: u32, tile: Tile) {
  let first = positions_of(part, tile).first;
  for (var word = 0u; word < POSITIONS / MARKED; word++) { marks[word] = 0u; }
  apply_marking(last, part, tile, first);
  let others = Others(entries_of(last, part).start, value_in(last));
  let value = value_in(stream);
  let entries = entries_of(stream, part);
  var cursor = open(stream, part);
  var rank = 0u;
  var pending = 0u;
  while (more(cursor) & (rank < entries.capacity)) {
    let turn = next_turn(&cursor, &rank, entries, tile);
    let raw = load_turn(turn);
    add_entry(turn.first, entries.start, value, raw.x, &pending, first, others);
    add_entry(turn.second, entries.start, value, raw.y, &pending, first, others);
    add_entry(turn.third, entries.start, value, raw.z, &pending, first, others);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn pair(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (!is_part(part)) { return; }
  let tile = tile_of(part / LANES);
  // Only the last stream with an entry at a weight has journaled it; what the others wrote there is overwritten.
  for (var stream = 0u; stream < min(params.reverted, MAX_STREAMS); stream++) { revert_entries(stream, part, tile); }
  if (params.applied == 1u) { apply_entries(params.reverted, part, tile); }
  if (params.applied == 2u) { apply_both(params.reverted, params.reverted + 1u, part, tile); }
}
