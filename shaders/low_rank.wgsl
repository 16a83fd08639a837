// W := W * scale + L R over a whole tensor: the merge of LoRA, and with rank 0 that of (IA)^3. L (rows x rank) and
// R (rank x cols) come from `unpack` and pass through workgroup memory in square tiles.
#import target

struct LowRank {
  rows: u32,
  cols: u32,
  offset: u32,
  row_stride: u32,
  col_stride: u32,
  rank: u32,
  /// Tiles of this dispatch, row by row.
  first_tile: u32,
  end_tile: u32,
  /// Index in `factors` of the first value of L and of R, both row-major.
  left: u32,
  right: u32,
  /// Index in `factors` of the values that (IA)^3 adds to 1, one for every `row_group` rows and `col_group` columns; a
  /// group of 0 means no scale.
  row_scale: u32,
  row_group: u32,
  col_scale: u32,
  col_group: u32,
}

@group(0) @binding(0) var<uniform> params: LowRank;
@group(0) @binding(2) var<storage, read> factors: array<f32>;

/// Rows and columns of a tile.
const TILE = 16u;

var<workgroup> left_tile: array<f32, TILE * TILE>;
var<workgroup> right_tile: array<f32, TILE * TILE>;

@compute @workgroup_size(TILE, TILE)
fn low_rank(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
) {
  let across = (params.cols + TILE - 1u) / TILE;
  let tile = params.first_tile + group.x + group.y * groups.x;
  let row = (tile / across) * TILE + lane.y;
  let col = (tile % across) * TILE + lane.x;
  let inside = tile < params.end_tile && row < params.rows && col < params.cols;
  let in_tile = lane.y * TILE + lane.x;
  var sum = 0.0;
  for (var first_k = 0u; first_k < params.rank; first_k += TILE) {
    left_tile[in_tile] = 0.0;
    right_tile[in_tile] = 0.0;
    if (row < params.rows && first_k + lane.x < params.rank) {
      left_tile[in_tile] = factors[params.left + row * params.rank + first_k + lane.x];
    }
    if (col < params.cols && first_k + lane.y < params.rank) {
      right_tile[in_tile] = factors[params.right + (first_k + lane.y) * params.cols + col];
    }
    workgroupBarrier();
    for (var k = 0u; k < TILE; k++) { sum += left_tile[lane.y * TILE + k] * right_tile[k * TILE + lane.x]; }
    workgroupBarrier();
  }
  if (!inside) { return; }
  let element = params.offset + row * params.row_stride + col * params.col_stride;
  let raw = load(element);
  var value = value_of(raw);
  if (params.row_group > 0u) { value *= 1.0 + factors[params.row_scale + row / params.row_group]; }
  if (params.col_group > 0u) { value *= 1.0 + factors[params.col_scale + col / params.col_group]; }
  if (params.rank > 0u) { value += sum; }
  store(element, raw, raw_of(value));
}
