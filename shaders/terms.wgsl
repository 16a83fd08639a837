// W := W + weight * (sum of scale * x * y^T) over a whole tensor: the merge of ternary rank-1 terms. Neighbouring
// invocations have neighbouring entries of the axis that is contiguous in memory (along), and each has sixteen entries of
// the other axis (across): a word of its vector.
#import target
#import term_vectors

struct Terms {
  along: u32,
  across: u32,
  /// Element of entry (i along, j across) is offset + i * along_step + j * across_step.
  offset: u32,
  along_step: u32,
  across_step: u32,
  /// Words of the other axis in this dispatch.
  first_word: u32,
  end_word: u32,
  count: u32,
  weight: f32,
  /// Arena words of the scales, and of the first vector along each axis.
  scales: u32,
  along_words: u32,
  across_words: u32,
}

@group(0) @binding(0) var<uniform> params: Terms;
@group(0) @binding(2) var<storage, read> arena: array<u32>;

fn add_four(first: u32, element: u32, values: vec4f) {
  for (var k = 0u; k < 4u && first + k < params.across; k++) {
    let at = element + k * params.across_step;
    let raw = load(at);
    store(at, raw, raw_of(value_of(raw) + values[k]));
  }
}

@compute @workgroup_size(64)
fn terms(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let id = (group.x + group.y * groups.x) * 64u + lane;
  let word = params.first_word + id / params.along;
  if (word >= params.end_word) { return; }
  let i = id % params.along;
  let along_step = vector_words(params.along);
  let across_step = vector_words(params.across);
  var sums = array<vec4f, 4>();
  for (var t = 0u; t < params.count; t++) {
    let scale = params.weight * bitcast<f32>(arena[params.scales + t])
      * term_entry_in(arena[params.along_words + t * along_step + i / ENTRIES_PER_WORD], i);
    let entries = arena[params.across_words + t * across_step + word];
    sums[0] += scale * term_entries_in(entries, 0u);
    sums[1] += scale * term_entries_in(entries, 4u);
    sums[2] += scale * term_entries_in(entries, 8u);
    sums[3] += scale * term_entries_in(entries, 12u);
  }
  let first = word * ENTRIES_PER_WORD;
  let element = params.offset + i * params.along_step + first * params.across_step;
  add_four(first, element, sums[0]);
  add_four(first + 4u, element + 4u * params.across_step, sums[1]);
  add_four(first + 8u, element + 8u * params.across_step, sums[2]);
  add_four(first + 12u, element + 12u * params.across_step, sums[3]);
}
