// Sums over the blocks of one tensor by the 64 invocations of a workgroup: each walks a run of neighbours, and there is
// one barrier. A scan over 256 invocations has 18, and took ten times as long where a CPU plays the GPU.

var<workgroup> run_sums: array<u32, 64>;

/// Blocks that one invocation walks.
fn run_length(blocks: u32) -> u32 { return (blocks + 63u) / 64u; }

/// a + b, or `most` if that is more; a is not.
fn add_up_to(a: u32, b: u32, most: u32) -> u32 { return select(a + b, most, b > most - a); }

/// Sum over the runs before that of `lane`, `most` at most, of what each lane gives as the sum of its own.
fn sum_before(lane: u32, sum: u32, most: u32) -> u32 {
  run_sums[lane] = sum;
  workgroupBarrier();
  var before = 0u;
  for (var i = 0u; i < lane; i++) { before = add_up_to(before, run_sums[i], most); }
  return before;
}
