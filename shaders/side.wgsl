// Writes a ternary stream as 2-bit weights of onnxruntime's MatMulNBits: rows of `row_stride` fields, where code 2, the
// default zero point, is zero, 3 is +1 and 1 is -1. The buffer has been filled with code 2. Neighbouring tiles share
// words, so each field is flipped by an atomic xor.
#import job

@group(0) @binding(1) var<storage, read_write> fields: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn side(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (!is_part(part)) { return; }
  let tile = tile_of(part / LANES);
  let decoder = decoder_of(code_of(0u));
  var cursor = open(0u, part);
  while (more(cursor)) {
    if (step(&cursor, decoder) & (cursor.position < f32(tile.area))) {
      let element = element_at(tile, cursor.position);
      // Code 2 becomes 3 by xor with 1, and 1 by xor with 3.
      atomicXor(&fields[element >> 4u], select(1u, 3u, cursor.negative) << ((element & 15u) << 1u));
    }
  }
}
