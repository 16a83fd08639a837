// What `blend` does where all streams are dense: norms and biases. Each invocation has one word of the journal, which is
// one f32 weight or two f16. One invocation a block, as in `blend`, would leave a tensor of 4096 weights to one lane.
#import job
#import displaced
#import journal
#import dense_entries

/// Sum of the applied streams at a weight, in the order of the set. It starts from the first delta: 0 + -0 is not -0.
fn delta_at(flat: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < params.applied; i++) {
    let stream = params.reverted + i;
    let delta = value_in(stream) * dense_at(code_of(stream).words, codec_of(stream), flat);
    sum = select(sum + delta, delta, i == 0u);
  }
  return sum;
}

@compute @workgroup_size(64)
fn dense(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = start_job(group, groups) * 64u + lane;
  // Every tile has the invocations of the largest one, so some of those at the edges have no work.
  let area = min(params.tile_rows, params.rows) * min(params.tile_cols, params.cols);
  let words = (area + PER_WORD - 1u) / PER_WORD;
  let block_id = params.first_block + word / words;
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  let first = (word % words) * PER_WORD;
  // Parts have an even number of positions, so no word lies across two.
  let part = block_id * LANES + first / POSITIONS;
  let start_of_part = first - first % POSITIONS;
  // The journal of the last stream of a set is the one that has the displaced weights.
  let old_start = dense_start(max(params.reverted, 1u) - 1u, part, start_of_part);
  let start = dense_start(params.reverted + max(params.applied, 1u) - 1u, part, start_of_part);
  let end = min(first + PER_WORD, tile.area);
  var pending = 0u;
  for (var position = first; position < end; position++) {
    let element = element_at(tile, f32(position));
    let current = load(element);
    var raw = current;
    if (params.reverted > 0u) { raw = displaced_at(old_start, position - start_of_part); }
    if (params.applied > 0u) {
      journal_write(start, position - start_of_part, raw, &pending);
      raw = raw_of(value_of(raw) + delta_at(flat_at(tile, f32(position))));
    }
    store(element, current, raw);
  }
}
