// What a merge kernel works on: a tensor, where it lies in a buffer, and the streams that meet there. `jobs` and `job_list`
// say where an invocation finds its job.
#import golomb
#import half
#import workgroup
#import term_vectors

/// `codec` of a stream.
const TERNARY = 0u;
const DENSE_F16 = 1u;
const DENSE_F32 = 2u;
/// One side of a tensor of ternary rank-1 terms, as a matrix of terms x entries.
const TERMS = 3u;
/// Positions in a block with a step each; `steps` reads them.
const STEPS = 4u;

/// Streams of one tensor that a switch can revert, and as many that it can apply.
const MAX_STREAMS = 8u;

struct Stream {
  code: Code,
  /// Arena word of the block index: first bit, entries before it and entry points for each block; the first two for the end.
  index: u32,
  codec: u32,
  /// Ternary: weight * scale, the magnitude of an entry. Dense: the weight, which its values are multiplied with. Steps: the
  /// weight, 1 for all of a step.
  value: f32,
  /// First word of its span in the journal of its set.
  journal: u32,
}

#import jobs
#import parts

@group(0) @binding(2) var<storage, read> arena: array<u32>;

struct Tile {
  /// Element of the first weight.
  origin: u32,
  row: u32,
  col: u32,
  width: u32,
  area: u32,
  /// 1 / width, rounded.
  reciprocal: f32,
  /// As in `Job`.
  row_stride: u32,
  col_stride: u32,
}

/// The tile that a block is of.
fn tile_of(block_id: u32) -> Tile {
  let band = block_id / params.across;
  var tile: Tile;
  tile.row = band * params.tile_rows;
  tile.col = (block_id - band * params.across) * params.tile_cols;
  tile.width = min(params.tile_cols, params.cols - tile.col);
  tile.area = min(params.tile_rows, params.rows - tile.row) * tile.width;
  tile.reciprocal = 1.0 / f32(tile.width);
  tile.row_stride = params.row_stride;
  tile.col_stride = params.col_stride;
  tile.origin = params.offset + tile.row * params.row_stride + tile.col * params.col_stride;
  return tile;
}

/// Row in a tile of a position < 4096. Half a position away from an edge of the row, the quotient is at least
/// 0.5 / width away from an integer, which is more than the rounding of the reciprocal can move it.
fn row_at(tile: Tile, position: f32) -> f32 { return floor((position + 0.5) * tile.reciprocal); }

/// Element of a position in a tile.
fn element_at(tile: Tile, position: f32) -> u32 {
  let row = row_at(tile, position);
  let col = position - row * f32(tile.width);
  return tile.origin + u32(whole_of(row)) * tile.row_stride + u32(whole_of(col)) * tile.col_stride;
}

/// Row-major index in its tensor of a position in a tile.
fn flat_at(tile: Tile, position: f32) -> u32 {
  let row = row_at(tile, position);
  let col = position - row * f32(tile.width);
  return (tile.row + u32(whole_of(row))) * params.cols + tile.col + u32(whole_of(col));
}

fn signed_value(value: f32, negative: bool) -> f32 { return select(value, -value, negative); }

/// Value `flat` of a dense section.
fn dense_at(words: u32, codec: u32, flat: u32) -> f32 {
  if (codec == DENSE_F32) { return bitcast<f32>(arena[words + flat]); }
  return bitcast<f32>(f32_from_half((arena[words + (flat >> 1u)] >> ((flat & 1u) << 4u)) & 0xffffu));
}

/// Entry `flat` of the vectors of terms: `code.m` entries a vector; times its scale, from `code.low` on, if `code.cut` is 1.
fn term_entry_at(code: Code, flat: u32) -> f32 {
  let term = flat / code.m;
  let i = flat - term * code.m;
  let entry = term_entry_in(arena[code.words + term * vector_words(code.m) + i / ENTRIES_PER_WORD], i);
  return select(entry, entry * bitcast<f32>(arena[code.low + term]), code.cut == 1u);
}

/// The part that this invocation walks.
fn part_of(group: vec3u, groups: vec3u, lane: u32) -> u32 {
  // It may set the params, so it comes before they are read.
  let number = start_job(group, groups);
  return params.first_block * LANES + number * WORKGROUP_SIZE + lane;
}

/// Whether there is such a part.
fn is_part(part: u32) -> bool { return part < params.end_block * LANES; }
