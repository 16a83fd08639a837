// Two 32-bit sums over the words of a buffer, each word mixed with its own position first. The mixing is a bijection of
// the word, so any change of one word changes both sums. The sums do not depend on the order of the invocations.

struct Checksum {
  words: u32,
  /// Another one for each buffer that is added to the same sums.
  seed: u32,
}

@group(0) @binding(0) var<uniform> params: Checksum;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<atomic<u32>, 2>;

var<workgroup> partial: array<vec2u, 64>;

/// The finalizer of MurmurHash3.
fn mix(value: u32) -> u32 {
  var h = value;
  h ^= h >> 16u;
  h *= 0x85ebca6bu;
  h ^= h >> 13u;
  h *= 0xc2b2ae35u;
  return h ^ (h >> 16u);
}

@compute @workgroup_size(64)
fn checksum(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  var sum = vec2u(0u);
  let stride = groups.x * groups.y * 64u;
  for (var i = (group.x + group.y * groups.x) * 64u + lane; i < params.words; i += stride) {
    let word = words[i];
    sum += vec2u(mix(word ^ mix(i ^ params.seed)), mix(word ^ mix(i + params.seed + 0x9e3779b9u)));
  }
  partial[lane] = sum;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { partial[lane] += partial[lane + half]; }
    workgroupBarrier();
  }
  if (lane == 0u) {
    atomicAdd(&sums[0], partial[0].x);
    atomicAdd(&sums[1], partial[0].y);
  }
}
