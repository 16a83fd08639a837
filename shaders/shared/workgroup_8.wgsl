// For other software adapters: their vectors have at most 8 lanes.
const WORKGROUP_SIZE = 8u;

/// Positions that `blend` works through at a time. With 4 KiB of sums llvmpipe compiles for half a minute.
const SLICE = 256u;
