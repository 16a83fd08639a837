// The general switch: from any set of up to 8 streams to any other, ternary or dense, chunk by
// chunk of a block. Deltas are summed in f32 in the order of the set and the weight is rounded once.
// Twin: src/gpu/reference/blend.ts.
#import job
#import target
#import displaced
#import journal
#import dense_entries

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

const MAX_STREAMS = 16u;

/// Positions of a tile that are worked through at a time.
const CHUNK = 256u;
const MASKS = CHUNK / 32u;

var<private> cursors: array<Cursor, MAX_STREAMS>;
/// An entry that was read but lies beyond the chunk at hand.
var<private> waiting: array<bool, MAX_STREAMS>;
/// Sums of the new deltas in this chunk, where `touched` has a bit.
var<private> sums: array<f32, CHUNK>;
var<private> touched: array<u32, MASKS>;
var<private> displaced_bits: array<u32, MASKS>;

/// Entries of the streams [from, to) before weight 0 of a block.
fn entries_before(first: u32, end: u32, block_id: u32) -> u32 {
  var entries = 0u;
  for (var stream = first; stream < end; stream++) {
    if (params.streams[stream].codec == TERNARY) {
      entries += kept_before(stream, block_id);
    } else {
      entries += dense_before(block_id);
    }
  }
  return entries;
}

/// Adds `delta` at a place of the chunk; the first one is taken as it is, for 0 + -0 would lose its sign.
fn add(at: u32, delta: f32) {
  let mask = touched[at >> 5u];
  let bit = 1u << (at & 31u);
  sums[at] = select(delta, sums[at] + delta, (mask & bit) != 0u);
  touched[at >> 5u] = mask | bit;
}

/// Adds the entries of one new stream in [first, end), or marks those of an old one.
fn collect(stream: u32, is_new: bool, tile: Tile, first: u32, end: u32) {
  let value = params.streams[stream].value;
  let code = code_of(stream);
  let codec = params.streams[stream].codec;
  if (codec != TERNARY) {
    for (var position = first; position < end; position++) {
      let at = position - first;
      if (is_new) {
        add(at, value * dense_at(code.words, codec, flat_at(tile, f32(position))));
      } else {
        displaced_bits[at >> 5u] |= 1u << (at & 31u);
      }
    }
    return;
  }
  let decoder = decoder_of(code);
  var cursor = cursors[stream];
  var ready = waiting[stream];
  loop {
    if (!ready) {
      if (!more(cursor)) { break; }
      ready = step(&cursor, decoder);
    }
    if (ready) {
      if (cursor.position >= f32(end)) { break; }
      ready = false;
      let at = u32(whole_of(cursor.position)) - first;
      if (is_new) {
        add(at, signed_value(value, cursor.negative));
      } else {
        displaced_bits[at >> 5u] |= 1u << (at & 31u);
      }
    }
  }
  cursors[stream] = cursor;
  waiting[stream] = ready;
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
  let olds = min(params.olds, MAX_STREAMS / 2u);
  let all = olds + min(params.news, MAX_STREAMS / 2u);
  let old_start = journal_start(entries_before(0u, olds, block_id), block_id);
  let kept = entries_before(olds, all, block_id);
  let capacity = entries_before(olds, all, block_id + 1u) - kept;
  let start = journal_start(kept, block_id);
  for (var stream = 0u; stream < all; stream++) {
    if (params.streams[stream].codec == TERNARY) { cursors[stream] = open(stream, block_id); }
  }
  var old_rank = 0u;
  var rank = 0u;
  var pending = 0u;
  for (var first = 0u; first < tile.area; first += CHUNK) {
    let end = min(first + CHUNK, tile.area);
    for (var mask = 0u; mask < MASKS; mask++) {
      touched[mask] = 0u;
      displaced_bits[mask] = 0u;
    }
    for (var stream = 0u; stream < all; stream++) { collect(stream, stream >= olds, tile, first, end); }
    // Every position that either set has, in ascending order.
    var mask = 0u;
    var bits = touched[0] | displaced_bits[0];
    while (mask < MASKS) {
      if (bits == 0u) {
        mask += 1u;
        if (mask < MASKS) { bits = touched[mask] | displaced_bits[mask]; }
        continue;
      }
      let bit = trailing_zeros(bits);
      bits &= bits - 1u;
      let at = mask * 32u + bit;
      let element = element_at(tile, f32(first + at));
      let current = load(element);
      var raw = current;
      if (((displaced_bits[mask] >> bit) & 1u) == 1u) {
        raw = displaced_at(old_start, old_rank);
        old_rank += 1u;
      }
      if (((touched[mask] >> bit) & 1u) == 1u && rank < capacity) {
        journal_write(start, rank, raw, &pending);
        rank += 1u;
        raw = raw_of(value_of(raw) + sums[at]);
      }
      store(element, current, raw);
    }
  }
}
