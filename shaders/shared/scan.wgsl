// Exclusive prefix sum over the 256 invocations of a workgroup (Hillis and Steele 1986).

var<workgroup> sums: array<u32, 256>;

fn scan(lane: u32, value: u32) -> u32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  for (var step = 1u; step < 256u; step <<= 1u) {
    var left = 0u;
    if (lane >= step) { left = sums[lane - step]; }
    workgroupBarrier();
    sums[lane] += left;
    workgroupBarrier();
  }
  return sums[lane] - value;
}

/// Sum of the values given to the last `scan`.
fn scan_total() -> u32 { return workgroupUniformLoad(&sums[255]); }
