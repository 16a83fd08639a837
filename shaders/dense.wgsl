// What `blend` does, where all streams are dense: norms and biases. An invocation has a word of the journal to itself,
// one weight of f32 or two of f16; walking a block of them would leave a tensor of 4096 weights to one lane.
// Twin: src/gpu/reference/dense.ts.
#import job
#import target
#import displaced
#import journal
#import dense_entries

@group(0) @binding(0) var<uniform> params: Job;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

/// What the new streams add to a weight, in the order of the set; the first is taken as it is.
fn delta_at(flat: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < params.news; i++) {
    let stream = params.streams[params.olds + i];
    let delta = stream.value * dense_at(stream.code.words, stream.codec, flat);
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
  // The largest tile; those at the edges leave some invocations without work.
  let area = min(params.tile_rows, params.rows) * min(params.tile_cols, params.cols);
  let words = (area + PER_WORD - 1u) / PER_WORD;
  let word = (group.x + group.y * groups.x) * 64u + lane;
  let block_id = params.first_block + word / words;
  if (block_id >= params.end_block) { return; }
  let tile = tile_of(block_id);
  let first = (word % words) * PER_WORD;
  // The last stream of a set has what was displaced.
  let old_start = dense_start(max(params.olds, 1u) - 1u, block_id);
  let start = dense_start(params.olds + max(params.news, 1u) - 1u, block_id);
  let end = min(first + PER_WORD, tile.area);
  var pending = 0u;
  for (var position = first; position < end; position++) {
    let element = element_at(tile, f32(position));
    let current = load(element);
    var raw = current;
    if (params.olds > 0u) { raw = displaced_at(old_start, position); }
    if (params.news > 0u) {
      journal_write(start, position, raw, &pending);
      raw = raw_of(value_of(raw) + delta_at(flat_at(tile, f32(position))));
    }
    store(element, current, raw);
  }
}
