// Adds a tensor of an expert, ternary or dense, or one side of its terms, times a multiplier to f32 or f16 values: LoRA
// factors and (IA)^3 vectors on their way to the weights, and inputs of graphs.
#import job
#import target

@compute @workgroup_size(WORKGROUP_SIZE)
fn unpack(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let part = part_of(group, groups, lane);
  if (!is_part(part)) { return; }
  let tile = tile_of(part / LANES);
  let value = value_in(0u);
  let code = code_of(0u);
  let codec = codec_of(0u);
  if (codec == TERNARY) {
    let decoder = decoder_of(code);
    var cursor = open(0u, part);
    while (more(cursor)) {
      if (step(&cursor, decoder) & (cursor.position < f32(tile.area))) {
        let element = element_at(tile, cursor.position);
        let raw = load(element);
        store(element, raw, raw_of(value_of(raw) + signed_value(value, cursor.negative)));
      }
    }
    return;
  }
  let positions = positions_of(part, tile);
  for (var position = positions.first; position < positions.end; position++) {
    let element = element_at(tile, f32(position));
    let raw = load(element);
    let flat = flat_at(tile, f32(position));
    var entry = 0.0;
    if (codec == TERMS) { entry = term_entry_at(code, flat); } else { entry = dense_at(code.words, codec, flat); }
    store(element, raw, raw_of(value_of(raw) + value * entry));
  }
}
