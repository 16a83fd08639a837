// For GPUs: 8 neighbouring invocations share a block, each from an entry point of its own. One invocation a block leaves most of a
// GPU idle on the tensors of a small model, and the others waiting for one that walks 4096 positions.
const LANES = 8u;

/// Positions that an invocation walks.
const POSITIONS = 512u;

/// Words that the index of a stream has for a block: its first bit, the entries before it, and the entry points of `points`: a
/// sixteenth of a bit for each weight.
const INDEX_WORDS = 10u;
