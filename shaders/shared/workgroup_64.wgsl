// For GPUs: a multiple of every subgroup size.
const WORKGROUP_SIZE = 64u;

/// Positions that `blend` works through at a time. The private memory of all invocations in flight is memory of the GPU.
const SLICE = 128u;
