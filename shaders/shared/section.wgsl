// The ternary sections of one expert, and where their indexing reports a stream that contradicts its table.

/// All in words of the arena. Twin: `Section` in src/gpu/sections.ts.
struct Section {
  words: u32,
  word_count: u32,
  /// Two words a block: first bit, entries before it.
  index: u32,
  blocks: u32,
  kept: u32,
  m: u32,
  low: u32,
  cut: u32,
  length_min: u32,
  length_bits: u32,
  rows: u32,
  cols: u32,
  tile_rows: u32,
  tile_cols: u32,
  across: u32,
  /// Blocks of the sections before this one.
  first_block: u32,
}

const LENGTHS = 1u;
const ENTRIES = 2u;
const COUNT = 4u;

@group(0) @binding(0) var<storage, read> sections: array<Section>;
/// Kinds of failure seen, and the first section that has one.
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>, 2>;

fn fail(section: u32, kind: u32) {
  atomicOr(&status[0], kind);
  atomicMin(&status[1], section);
}

fn words_for(bits: u32) -> u32 { return (bits >> 5u) + select(0u, 1u, (bits & 31u) != 0u); }
