// Reads the journal of the set that is being reverted, as `journal_f32` wrote it.
@group(0) @binding(3) var<storage, read> displaced: array<u32>;

fn displaced_at(start: u32, rank: u32) -> u32 { return displaced[start + rank]; }
