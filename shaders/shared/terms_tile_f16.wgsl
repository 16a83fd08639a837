// Strips of f16 weights: two entries along, which are one word, and 16 across for each tile.
#import target
#import terms_pass
#import terms_base
#requires IN_PLACE, tile_sums

const WORD_ALONG = 2u;
const TILE_ACROSS = 16u;

/// A word of two weights: the base is rounded as it was when it was loaded, then the sum.
fn put_word(element: u32, base: vec2f, sum: vec2f) {
  var rounded = vec2f(value_of(raw_of(base.x)), value_of(raw_of(base.y)));
  if (IN_PLACE) {
    let word = atomicLoad(&weights[element >> 1u]);
    rounded = vec2f(value_of(word & 0xffffu), value_of(word >> 16u));
  }
  atomicStore(&weights[element >> 1u], raw_of(rounded.x + sum.x) | (raw_of(rounded.y + sum.y) << 16u));
}

fn put_four(element: u32, low: vec4f, high: vec4f, low_sum: vec4f, high_sum: vec4f) {
  let step = params.across_step;
  put_word(element, vec2f(low.x, high.x), vec2f(low_sum.x, high_sum.x));
  put_word(element + step, vec2f(low.y, high.y), vec2f(low_sum.y, high_sum.y));
  put_word(element + 2u * step, vec2f(low.z, high.z), vec2f(low_sum.z, high_sum.z));
  put_word(element + 3u * step, vec2f(low.w, high.w), vec2f(low_sum.w, high_sum.w));
}

fn add_alone(element: u32, value: f32) {
  let raw = load(element);
  store(element, raw, raw_of(value_of(raw) + value));
}

/// Sums of one pair at entries `i` and `i + 1` along: word `tile` across.
fn sums_of(k: u32, x: Along, tile: u32) -> Sums {
  let y = across_pair(k, tile);
  return Sums(
    sum_of(x.first, y, ENTRIES_0),
    sum_of(x.first, y, ENTRIES_4),
    sum_of(x.first, y, ENTRIES_8),
    sum_of(x.first, y, ENTRIES_12),
    sum_of(x.second, y, ENTRIES_0),
    sum_of(x.second, y, ENTRIES_4),
    sum_of(x.second, y, ENTRIES_8),
    sum_of(x.second, y, ENTRIES_12),
  );
}

/// What a pair has along from entry `i` on.
fn along_of(k: u32, i: u32) -> Along { return Along(along_values(k, i), along_values(k, i + 1u)); }

/// The part of a tile that there is, or one whose words belong to several invocations.
fn add_some(element: u32, i: u32, first: u32, sums: Sums) {
  var low = array<vec4f, 4>(sums.a, sums.b, sums.c, sums.d);
  var high = array<vec4f, 4>(sums.e, sums.f, sums.g, sums.h);
  for (var k = 0u; k < TILE_ACROSS && first + k < params.across; k++) {
    let at = element + k * params.across_step;
    add_alone(at, low[k / 4u][k % 4u]);
    if (i + 1u < params.along) { add_alone(at + params.along_step, high[k / 4u][k % 4u]); }
  }
}

fn put_tile(element: u32, i: u32, first: u32, sums: Sums) {
  let step = params.across_step;
  if (IN_PLACE) {
    if (params.aligned == 0u || i + 1u >= params.along || first + TILE_ACROSS > params.across) {
      add_some(element, i, first, sums);
      return;
    }
    let none = vec4f();
    put_four(element, none, none, sums.a, sums.e);
    put_four(element + 4u * step, none, none, sums.b, sums.f);
    put_four(element + 8u * step, none, none, sums.c, sums.g);
    put_four(element + 12u * step, none, none, sums.d, sums.h);
  } else {
    let low_at = integers_at(i, first);
    let high_at = integers_at(i + 1u, first);
    let col = first / params.blocks.block_size;
    let low = line_of_block(i, col);
    let high = line_of_block(i + 1u, col);
    let q = vec4u(section[low_at], section[low_at + 1u], section[high_at], section[high_at + 1u]);
    put_four(element, low_four(q.x, low), low_four(q.z, high), sums.a, sums.e);
    put_four(element + 4u * step, high_four(q.x, low), high_four(q.z, high), sums.b, sums.f);
    put_four(element + 8u * step, low_four(q.y, low), low_four(q.w, high), sums.c, sums.g);
    put_four(element + 12u * step, high_four(q.y, low), high_four(q.w, high), sums.d, sums.h);
  }
}

fn change_strip(strip: u32) {
  let band = strip / params.words_along;
  let i = (strip - band * params.words_along) * WORD_ALONG;
  let first_tile = band * params.strip;
  let step = TILE_ACROSS * params.across_step;
  var element = params.offset + i * params.along_step + first_tile * step;
  let x = along_of(0u, i);
  let end = min(first_tile + params.strip, params.tiles_across);
  for (var tile = first_tile; tile < end; tile++) {
    put_tile(element, i, tile * TILE_ACROSS, tile_sums(x, i, tile));
    element += step;
  }
}
