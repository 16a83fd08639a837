// For software adapters: an invocation walks a whole block, and there are no entry points. A CPU that plays GPU has fewer threads
// than a tensor has blocks, and to start in the middle of one costs something each time.
const LANES = 1u;

/// Positions that an invocation walks.
const POSITIONS = 4096u;

/// Words that the index of a stream has for a block: its first bit, and the entries before it.
const INDEX_WORDS = 2u;
