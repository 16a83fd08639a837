// Writes the journal of the set that is being applied, a word an entry.
@group(0) @binding(4) var<storage, read_write> journal: array<u32>;

/// Appends entry `rank` of a block; `pending` is for `journal_f16`.
fn journal_write(start: u32, rank: u32, raw: u32, pending: ptr<function, u32>) { journal[start + rank] = raw; }

/// Reads entry `rank` of a block that this invocation has written.
fn journal_at(start: u32, rank: u32) -> u32 { return journal[start + rank]; }

/// As in `journal_f16`: no word has a second half here.
fn journal_pending(start: u32, rank: u32) -> u32 { return 0u; }
