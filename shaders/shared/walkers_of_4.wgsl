// Workgroups for SwiftShader, which gives each to one of its threads and has vectors of 4: a tensor of 64 blocks in one group
// would keep the other threads idle.
const WALKERS = 4u;

/// Positions that `blend` works through at a time. Four KiB of sums cost nothing here, and starting a span does.
const SPAN = 1024u;
