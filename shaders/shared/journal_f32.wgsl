// Writing the journal of the set that becomes current: a word for each entry.
@group(0) @binding(4) var<storage, read_write> journal: array<u32>;

/// Appends entry `rank` of a block.
fn journal_write(start: u32, rank: u32, raw: u32, pending: ptr<function, u32>) { journal[start + rank] = raw; }

/// `pending` of a block's journal that goes on at entry `rank`.
fn journal_pending(start: u32, rank: u32) -> u32 { return 0u; }
