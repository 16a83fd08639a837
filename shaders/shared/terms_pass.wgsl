// Sums of ternary rank-1 terms for tiles of a matrix. Along is the axis that is contiguous in memory, so that neighbouring
// invocations write neighbouring words; across is the other one. An invocation has a strip of tiles, one after the other across:
// what it needs along is read once for all of them. Terms come in pairs. There is no barrier, and no shift by an amount that
// differs between lanes for each weight: a CPU that plays GPU has no vector instruction for either.
#import term_vectors

/// Pairs of one pass.
const MAX_PAIRS = 32u;

/// Two terms: arena words of their scales, of their vectors along and of those across. A term that fills up has weight 0.
struct Pair {
  scales: vec2u,
  weights: vec2f,
  along: vec2u,
  across: vec2u,
}

/// A section of 4-bit blocks whose scales are binary16: words in one row, blocks in one row, and where integers, scales and zero
/// points start. A row is an entry along, and blocks have a multiple of 32 entries across.
struct Blocks {
  row_words: u32,
  per_row: u32,
  block_size: u32,
  /// As in `NBits`.
  zero_points: u32,
  quantized_at: u32,
  scales_at: u32,
  zeros_at: u32,
}

struct Terms {
  along: u32,
  across: u32,
  /// Element of entry (i along, j across) is offset + i * along_step + j * across_step.
  offset: u32,
  along_step: u32,
  across_step: u32,
  /// Words of a vector across.
  across_words: u32,
  /// Words of weights along, tiles across and tiles of a strip.
  words_along: u32,
  tiles_across: u32,
  strip: u32,
  /// Strips of this dispatch, those with the same tiles across first.
  first_strip: u32,
  end_strip: u32,
  /// 1 where every word of f16 weights belongs to one invocation.
  aligned: u32,
  pairs: u32,
  /// Where the base is made anew from: see `terms_blocks`. Uniform memory has structs at multiples of 16 bytes.
  @align(16) blocks: Blocks,
  @align(16) pair: array<Pair, MAX_PAIRS>,
}

@group(0) @binding(0) var<uniform> params: Terms;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

/// What moves each of four entries of a word to the top.
const ENTRIES_0 = vec4u(0x40000000u, 0x10000000u, 0x4000000u, 0x1000000u);
const ENTRIES_4 = vec4u(0x400000u, 0x100000u, 0x40000u, 0x10000u);
const ENTRIES_8 = vec4u(0x4000u, 0x1000u, 0x400u, 0x100u);
const ENTRIES_12 = vec4u(0x40u, 0x10u, 0x4u, 0x1u);

/// Four entries of a word times 2^30.
fn four_entries(word: u32, places: vec4u) -> vec4f {
  return vec4f(vec4i((vec4u(word) * places) & vec4u(0xc0000000u)));
}

/// What the entries across of a pair are multiplied with at entry `i` along, over 2^30.
fn along_values(k: u32, i: u32) -> vec2f {
  let at = min(i, params.along - 1u);
  let words = params.pair[k].along + at / ENTRIES_PER_WORD;
  let scales = params.pair[k].scales;
  let entries = vec2f(term_entry_in(arena[words.x], at), term_entry_in(arena[words.y], at));
  let factors = vec2f(bitcast<f32>(arena[scales.x]), bitcast<f32>(arena[scales.y]));
  return params.pair[k].weights * factors * entries * 0x1p-30;
}

/// A word of both vectors across; beyond the end it is the last one's.
fn across_pair(k: u32, word: u32) -> vec2u {
  let at = params.pair[k].across + min(word, params.across_words - 1u);
  return vec2u(arena[at.x], arena[at.y]);
}

fn sum_of(x: vec2f, y: vec2u, places: vec4u) -> vec4f {
  return x.x * four_entries(y.x, places) + x.y * four_entries(y.y, places);
}

/// What a pair has along, for each half of a tile that differs there.
struct Along {
  first: vec2f,
  second: vec2f,
}

/// Sums of a tile, four entries across each.
struct Sums {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
  e: vec4f,
  f: vec4f,
  g: vec4f,
  h: vec4f,
}
