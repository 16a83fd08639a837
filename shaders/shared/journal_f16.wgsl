// Writes the journal of the set that is being applied, two halves a word. Each block owns whole words, so no two
// invocations write the same word.
@group(0) @binding(4) var<storage, read_write> journal: array<u32>;

/// Appends entry `rank` of a block; `pending` is the word so far. The word is written for each of its halves: that costs
/// less than a branch that neighbouring invocations take at different times.
fn journal_write(start: u32, rank: u32, raw: u32, pending: ptr<function, u32>) {
  let word = select(*pending | (raw << 16u), raw, (rank & 1u) == 0u);
  *pending = word;
  journal[start + (rank >> 1u)] = word;
}

/// Reads entry `rank` of a block that this invocation has written.
fn journal_at(start: u32, rank: u32) -> u32 { return (journal[start + (rank >> 1u)] >> ((rank & 1u) << 4u)) & 0xffffu; }

/// `pending` where the journal of a block continues at entry `rank`.
fn journal_pending(start: u32, rank: u32) -> u32 { return journal[start + (rank >> 1u)]; }
