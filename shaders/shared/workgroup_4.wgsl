// For SwiftShader, which runs a workgroup on one thread and has vectors of 4: with a tensor of 64 blocks in one workgroup
// the other threads would be idle.
const WORKGROUP_SIZE = 4u;

/// Positions that `blend` works through at a time. 4 KiB of sums cost nothing here, and each slice has a fixed cost.
const SLICE = 1024u;
