// The ternary sections of one expert for the index kernels, and how those report a stream that contradicts its table.
#import lanes

/// One tensor. Addresses are words of the arena.
struct Section {
  words: u32,
  word_count: u32,
  /// `INDEX_WORDS` a block: first bit, entries before it, entry points.
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

/// Kinds of failure: block lengths that do not add up to the size of the stream, codes that leave their block, a number
/// of entries that is not the declared one.
const BAD_LENGTHS = 1u;
const BAD_ENTRIES = 2u;
const BAD_COUNT = 4u;

@group(0) @binding(0) var<storage, read> sections: array<Section>;
@group(0) @binding(1) var<storage, read_write> arena: array<u32>;
/// Kinds of failure found, and the first section with one.
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>, 2>;

fn fail(section: u32, kind: u32) {
  atomicOr(&status[0], kind);
  atomicMin(&status[1], section);
}

fn words_for(bits: u32) -> u32 { return (bits >> 5u) + select(0u, 1u, (bits & 31u) != 0u); }
