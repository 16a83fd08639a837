// Copies payload words of a dense tensor to its elements in a weight buffer, in the type of the buffer.
#import target
#import placement

struct Expand {
  placement: Placement,
  /// First word in `source`, and how many.
  word: u32,
  words: u32,
  /// Flat row-major index of the element in the first word; the number of elements of the tensor.
  first: u32,
  end: u32,
  /// 1 where a word of the source holds two binary16, 0 where it is a binary32.
  half: u32,
}

@group(0) @binding(0) var<uniform> params: Expand;
@group(0) @binding(2) var<storage, read> source: array<u32>;

fn put(flat: u32, raw: u32) {
  if (flat >= params.end) { return; }
  overwrite(element_of(params.placement, flat), raw);
}

@compute @workgroup_size(64)
fn expand(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let word = (group.x + group.y * groups.x) * 64u + lane;
  if (word >= params.words) { return; }
  let bits = source[params.word + word];
  if (params.half == 1u) {
    put(params.first + 2u * word, raw_from_half(bits & 0xffffu));
    put(params.first + 2u * word + 1u, raw_from_half(bits >> 16u));
  } else {
    put(params.first + word, raw_from_f32(bits));
  }
}
