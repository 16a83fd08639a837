// W := W * scale + L R over a whole tensor: LoRA's merge, and (IA)^3's with rank 0. L (rows x rank) and R (rank x cols)
// come from `unpack`, in tiles of 16 x 16 through workgroup memory. Twin: src/gpu/reference/low_rank.ts.
#import target

struct LowRank {
  rows: u32,
  cols: u32,
  offset: u32,
  row_stride: u32,
  col_stride: u32,
  rank: u32,
  /// First value of L and of R in `factors`, both row-major.
  left: u32,
  right: u32,
  /// First of the values that (IA)^3 adds to 1, one for every `row_group` rows or `col_group` columns; groups of 0: none.
  row_scale: u32,
  row_group: u32,
  col_scale: u32,
  col_group: u32,
}

@group(0) @binding(0) var<uniform> params: LowRank;
@group(0) @binding(2) var<storage, read> factors: array<f32>;

var<workgroup> left_tile: array<f32, 256>;
var<workgroup> right_tile: array<f32, 256>;

@compute @workgroup_size(16, 16)
fn low_rank(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
) {
  let across = (params.cols + 15u) / 16u;
  let tile = group.x + group.y * groups.x;
  let row = (tile / across) * 16u + lane.y;
  let col = (tile % across) * 16u + lane.x;
  let inside = row < params.rows && col < params.cols;
  let slot = lane.y * 16u + lane.x;
  var sum = 0.0;
  for (var first_k = 0u; first_k < params.rank; first_k += 16u) {
    left_tile[slot] = 0.0;
    right_tile[slot] = 0.0;
    if (row < params.rows && first_k + lane.x < params.rank) {
      left_tile[slot] = factors[params.left + row * params.rank + first_k + lane.x];
    }
    if (col < params.cols && first_k + lane.y < params.rank) {
      right_tile[slot] = factors[params.right + (first_k + lane.y) * params.cols + col];
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) { sum += left_tile[lane.y * 16u + k] * right_tile[k * 16u + lane.x]; }
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
