// Prefix sums over the blocks of one tensor by the 64 invocations of a workgroup, each of which walks a run of
// neighbouring blocks. There is one barrier; a scan over 256 invocations would have 18.

var<workgroup> run_sums: array<u32, 64>;

/// Blocks in the run of one invocation.
fn run_length(blocks: u32) -> u32 { return (blocks + 63u) / 64u; }

/// min(a + b, most) without overflow; a is at most `most`.
fn add_up_to(a: u32, b: u32, most: u32) -> u32 { return select(a + b, most, b > most - a); }

/// Sum over the runs before that of `lane`, at most `most`; each lane passes the sum of its own run.
fn sum_before(lane: u32, sum: u32, most: u32) -> u32 {
  run_sums[lane] = sum;
  workgroupBarrier();
  var before = 0u;
  for (var i = 0u; i < lane; i++) { before = add_up_to(before, run_sums[i], most); }
  return before;
}
