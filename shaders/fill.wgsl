// Writes the same word everywhere: ones for a shared scale tensor, zero codes of 2-bit weights.
struct Fill {
  words: u32,
  value: u32,
}

@group(0) @binding(0) var<uniform> params: Fill;
@group(0) @binding(1) var<storage, read_write> filled: array<u32>;

@compute @workgroup_size(64)
fn fill(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let stride = groups.x * groups.y * 64u;
  for (var i = (group.x + group.y * groups.x) * 64u + lane; i < params.words; i += stride) { filled[i] = params.value; }
}
