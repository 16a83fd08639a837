// Strips of f32 weights: one entry along, and 32 across for each tile.
#import target
#import terms_pass
#import terms_base
#requires IN_PLACE, tile_sums

const WORD_ALONG = 1u;
const TILE_ACROSS = 32u;

fn put_four(element: u32, base: vec4f, sum: vec4f) {
  let step = params.across_step;
  let at = vec4u(element) + vec4u(0u, step, 2u * step, 3u * step);
  var values = base + sum;
  if (IN_PLACE) {
    values = vec4f(value_of(load(at.x)), value_of(load(at.y)), value_of(load(at.z)), value_of(load(at.w))) + sum;
  }
  overwrite(at.x, raw_of(values.x));
  overwrite(at.y, raw_of(values.y));
  overwrite(at.z, raw_of(values.z));
  overwrite(at.w, raw_of(values.w));
}

/// Sums of one pair at entry `i` along: words `2 * tile` across and the next.
fn sums_of(k: u32, x: Along, tile: u32) -> Sums {
  let y = across_pair(k, 2u * tile);
  let z = across_pair(k, 2u * tile + 1u);
  return Sums(
    sum_of(x.first, y, ENTRIES_0),
    sum_of(x.first, y, ENTRIES_4),
    sum_of(x.first, y, ENTRIES_8),
    sum_of(x.first, y, ENTRIES_12),
    sum_of(x.first, z, ENTRIES_0),
    sum_of(x.first, z, ENTRIES_4),
    sum_of(x.first, z, ENTRIES_8),
    sum_of(x.first, z, ENTRIES_12),
  );
}

/// What a pair has along from entry `i` on.
fn along_of(k: u32, i: u32) -> Along { return Along(along_values(k, i), vec2f()); }

/// The part of a tile that there is.
fn add_some(element: u32, first: u32, sums: Sums) {
  var all = array<vec4f, 8>(sums.a, sums.b, sums.c, sums.d, sums.e, sums.f, sums.g, sums.h);
  for (var k = 0u; first + k < params.across; k++) {
    let at = element + k * params.across_step;
    overwrite(at, raw_of(value_of(load(at)) + all[k / 4u][k % 4u]));
  }
}

fn put_tile(element: u32, i: u32, first: u32, sums: Sums) {
  let step = params.across_step;
  if (IN_PLACE) {
    if (first + TILE_ACROSS > params.across) {
      add_some(element, first, sums);
      return;
    }
    let none = vec4f();
    put_four(element, none, sums.a);
    put_four(element + 4u * step, none, sums.b);
    put_four(element + 8u * step, none, sums.c);
    put_four(element + 12u * step, none, sums.d);
    put_four(element + 16u * step, none, sums.e);
    put_four(element + 20u * step, none, sums.f);
    put_four(element + 24u * step, none, sums.g);
    put_four(element + 28u * step, none, sums.h);
  } else {
    let at = integers_at(i, first);
    let line = line_of_block(i, first / params.blocks.block_size);
    let q = vec4u(section[at], section[at + 1u], section[at + 2u], section[at + 3u]);
    put_four(element, low_four(q.x, line), sums.a);
    put_four(element + 4u * step, high_four(q.x, line), sums.b);
    put_four(element + 8u * step, low_four(q.y, line), sums.c);
    put_four(element + 12u * step, high_four(q.y, line), sums.d);
    put_four(element + 16u * step, low_four(q.z, line), sums.e);
    put_four(element + 20u * step, high_four(q.z, line), sums.f);
    put_four(element + 24u * step, low_four(q.w, line), sums.g);
    put_four(element + 28u * step, high_four(q.w, line), sums.h);
  }
}

fn change_strip(strip: u32) {
  let band = strip / params.words_along;
  let i = strip - band * params.words_along;
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
