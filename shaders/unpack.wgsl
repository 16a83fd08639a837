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
  let block_id = block_of(group, groups, lane);
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  let value = value_in(0u);
  let code = code_of(0u);
  let codec = codec_of(0u);
  if (codec == TERNARY) {
    let decoder = decoder_of(code);
    var cursor = open(0u, block_id);
    while (more(cursor)) {
      if (step(&cursor, decoder) & (cursor.position < f32(tile.area))) {
        let element = element_at(tile, cursor.position);
        let raw = load(element);
        store(element, raw, raw_of(value_of(raw) + signed_value(value, cursor.negative)));
      }
    }
    return;
  }
  for (var position = 0u; position < tile.area; position++) {
    let element = element_at(tile, f32(position));
    let raw = load(element);
    let flat = flat_at(tile, f32(position));
    var entry = 0.0;
    if (codec == TERMS) { entry = term_entry_at(code, flat); } else { entry = dense_at(code.words, codec, flat); }
    store(element, raw, raw_of(value_of(raw) + value * entry));
  }
}
