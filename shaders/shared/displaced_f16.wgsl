// Reads the journal of the set that is being reverted, as `journal_f16` wrote it.
@group(0) @binding(3) var<storage, read> displaced: array<u32>;

fn displaced_at(start: u32, rank: u32) -> u32 {
  return (displaced[start + (rank >> 1u)] >> ((rank & 1u) << 4u)) & 0xffffu;
}
